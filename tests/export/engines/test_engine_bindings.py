"""Loading TensorRT, and asking only for what a version has."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
from engine_samples import fake_bindings, small_graph
from fake_tensorrt import BEHAVIOUR, VERSIONS, World, fake_module, surface, surface_of

from mimi_edge import installation
from mimi_edge.choices import Backend
from mimi_edge.errors import ArtifactError, ConfigError, EngineBuildError, MimiEdgeError
from mimi_edge.export.engines.running.cuda_library import why_no_driver
from mimi_edge.export.engines.tensorrt import bindings as bindings_module
from mimi_edge.export.engines.tensorrt import libraries
from mimi_edge.export.engines.tensorrt.bindings import bindings_of, load_bindings
from mimi_edge.runtimes import ENGINE_BACKENDS

ALL = (*VERSIONS, "rtx-1.7")


@pytest.fixture
def nothing_loaded(monkeypatch):
    """No TensorRT is loaded yet, and none that a test loads stays."""
    for name in [name for name in sys.modules if name.split(".")[0].startswith("tensorrt")]:
        monkeypatch.delitem(sys.modules, name)
    bindings_module._loaded.cache_clear()
    yield
    for name in [name for name in sys.modules if name.split(".")[0].startswith("tensorrt")]:
        del sys.modules[name]
    bindings_module._loaded.cache_clear()


def module_that(tmp_path, monkeypatch, name, source):
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)


# Loading.


@pytest.mark.usefixtures("nothing_loaded", "from_an_index")
@pytest.mark.parametrize(
    ("backend", "install", "aside"),
    [(Backend.TRT, 'pip install "mimi-edge[trt]"', "--system-site-packages"), (Backend.TRT_RTX, "[rtx]", "RTX PRO")],
)
def test_missing_tensorrt_names_the_line_that_installs_it(monkeypatch, backend, install, aside):
    monkeypatch.setattr(libraries, "find_spec", lambda name: None)
    with pytest.raises(MimiEdgeError, match="is not installed") as caught:
        load_bindings(backend)
    assert install in str(caught.value)
    assert aside in str(caught.value)


@pytest.mark.usefixtures("nothing_loaded", "from_an_index")
@pytest.mark.parametrize("backend", ENGINE_BACKENDS)
def test_on_a_jetson_missing_tensorrt_names_what_works_there(backend, monkeypatch):
    monkeypatch.setattr(libraries, "find_spec", lambda name: None)
    monkeypatch.setattr(installation, "is_tegra", lambda: True)
    monkeypatch.setattr(libraries, "is_tegra", lambda: True)
    with pytest.raises(MimiEdgeError) as caught:
        load_bindings(backend)
    assert "sudo apt install nvidia-jetpack" in str(caught.value)
    assert "pip install" not in str(caught.value)


@pytest.mark.usefixtures("nothing_loaded", "from_an_index")
def test_libraries_that_are_missing_are_named(tmp_path, monkeypatch):
    says = "libnvonnxparser.so.10: cannot open shared object file: No such file or directory"
    module_that(tmp_path, monkeypatch, "tensorrt", f"raise ImportError({says!r})")
    with pytest.raises(MimiEdgeError) as caught:
        load_bindings(Backend.TRT)
    for part in (says, 'pip install "mimi-edge[trt]"', "LD_LIBRARY_PATH", "JetPack"):
        assert part in str(caught.value)


@pytest.mark.usefixtures("nothing_loaded")
def test_libraries_of_another_version_are_told_from_missing_ones(tmp_path, monkeypatch):
    module_that(tmp_path, monkeypatch, "tensorrt", "raise ImportError('tensorrt.so: undefined symbol: getFoo')")
    with pytest.raises(MimiEdgeError, match="of another version") as caught:
        load_bindings(Backend.TRT)
    assert "--force-reinstall" in str(caught.value)


@pytest.mark.usefixtures("nothing_loaded")
def test_a_folder_called_tensorrt_is_no_tensorrt(tmp_path, monkeypatch):
    (tmp_path / "tensorrt").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MimiEdgeError, match="is not TensorRT"):
        load_bindings(Backend.TRT)


@pytest.mark.usefixtures("nothing_loaded")
def test_the_inner_module_does_where_the_outer_one_is_broken(tmp_path, monkeypatch):
    module_that(tmp_path, monkeypatch, "tensorrt", "raise RuntimeError('broken')")
    module_that(
        tmp_path,
        monkeypatch,
        "tensorrt_bindings",
        "import fake_tensorrt\nglobals().update(vars(fake_tensorrt.fake_module('10.15')))",
    )
    loaded = load_bindings(Backend.TRT)
    assert loaded.name == "TensorRT 10.15.1.29"
    assert load_bindings() is loaded, "one logger a process"


@pytest.mark.parametrize("backend", [Backend.TORCH, Backend.ORT_TRT])
def test_a_backend_without_engines_is_refused(backend):
    with pytest.raises(ConfigError, match="expected trt or trt-rtx"):
        load_bindings(backend)


def test_too_old_a_version_is_refused():
    module = fake_module("10.3")
    module.__version__ = "8.6.1"
    del module.INetworkDefinition.mark_weights_refittable
    with pytest.raises(MimiEdgeError, match=r"8\.6\.1 is too old.*mark_weights_refittable.*tensorrt>=10\.3"):
        bindings_of(module, Backend.TRT)


# Drivers.


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("start", ["builder", "runtime"])
def test_a_missing_driver_is_named_and_the_process_lives_on(version, start):
    message = "createInferRuntime: Error Code 6: API Usage Error (CUDA initialization failure with error: 35)"
    world = World(fail={start: ("ERROR", message)})
    with pytest.raises(MimiEdgeError, match="no NVIDIA driver, or it is too old") as caught:
        getattr(fake_bindings(version, world), start)()
    del caught
    gc.collect()
    assert world.calls == [start]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("start", ["Builder(loaded.logger)", "loaded.builder()", "loaded.runtime()"])
def test_a_driver_is_looked_for_before_tensorrt_ends_the_process(version, start):
    """In a process of its own, because the fakes of old versions abort without a driver, as the real ones do."""
    script = f"""
import fake_tensorrt
from mimi_edge.choices import Backend
from mimi_edge.export.engines.tensorrt.bindings import bindings_of
from mimi_edge.export.engines.running.cuda_library import why_no_driver
module = fake_tensorrt.fake_module({version!r}, world=fake_tensorrt.World(driver=False))
loaded = bindings_of(module, Backend.TRT, why_no_driver=lambda: why_no_driver(lambda: None))
{start.replace("Builder", "module.Builder")}
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path.cwd()), str(Path(__file__).parent)])}
    ended = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    aborts = start.startswith("Builder") and version == "10.3"
    assert ended.returncode == (-signal.SIGABRT if aborts else 1), ended.stderr
    if not start.startswith("Builder"):
        assert "no NVIDIA driver here" in ended.stderr
        assert "--runtime nvidia" in ended.stderr


def test_tensorrt_for_rtx_builds_without_a_driver():
    module = fake_module("rtx-1.7", world=World(driver=False))
    loaded = bindings_of(module, Backend.TRT_RTX, why_no_driver=lambda: "no driver")
    assert loaded.builder() is not None
    with pytest.raises(MimiEdgeError, match=r"Cannot start TensorRT's runtime .*no driver"):
        loaded.runtime()


def driver(start: int = 0, devices: int = 1) -> SimpleNamespace:
    def count(pointer) -> int:
        ctypes.cast(pointer, ctypes.POINTER(ctypes.c_int))[0] = devices
        return 0

    return SimpleNamespace(cuInit=lambda _flags: start, cuDeviceGetCount=count)


@pytest.mark.parametrize(
    ("library", "says"),
    [
        (None, "--runtime nvidia"),
        (driver(start=100), "CUDA_VISIBLE_DEVICES"),
        (driver(devices=0), "CUDA_VISIBLE_DEVICES"),
        (driver(start=803), "does not fit the driver that is loaded"),
        (driver(start=999), "CUDA error 999"),
    ],
)
def test_why_there_is_no_driver(library, says):
    assert says in str(why_no_driver(lambda: library))


def test_a_driver_with_a_gpu_is_one():
    assert why_no_driver(driver) is None


# What differs.


@pytest.mark.parametrize("version", ALL)
def test_networks_are_strongly_typed(version):
    loaded = fake_bindings(version)
    assert loaded.network(loaded.builder()).num_layers == 0  # the fake asserts the flag


@pytest.mark.parametrize(("version", "has"), [("10.3", True), ("10.15", True), ("11.4", False)])
def test_a_flag_that_is_gone_is_said_to_be_gone(version, has):
    loaded = fake_bindings(version)
    assert loaded.has_flag("FP16") is has
    assert loaded.has_flag("REFIT_INDIVIDUAL")
    if has:
        assert loaded.flag("FP16").name == "FP16"
    else:
        with pytest.raises(EngineBuildError, match=r"11\.4.*no builder flag FP16"):
            loaded.flag("FP16")


@pytest.mark.parametrize("version", ALL)
def test_device_memory_is_asked_for_as_the_version_has_it(version, tmp_path):
    loaded = fake_bindings(version)
    engine = loaded.deserialize(loaded.runtime(), plan_of(loaded, tmp_path), "x.engine")
    assert loaded.device_memory_bytes(engine) == 2000
    assert hasattr(engine, "device_memory_size") is (version in {"10.3", "10.15"})


def plan_of(loaded, folder):
    builder = loaded.builder()
    network = loaded.network(builder)
    loaded.parse(network, small_graph(folder))
    return loaded.build(builder, network, builder.create_builder_config())


@pytest.mark.parametrize("version", ALL)
def test_an_engine_says_what_goes_in_and_out(version, tmp_path):
    loaded = fake_bindings(version)
    engine = loaded.deserialize(loaded.runtime(), plan_of(loaded, tmp_path), "x.engine")
    assert [(one.name, one.mode, one.dtype, one.shape) for one in loaded.engine_tensors(engine)] == [
        ("images", "input", "float32", (-1, 3)),
        ("logits", "output", "float32", (-1, 3)),
    ]
    assert loaded.layers(engine) == [f"node {index}" for index in range(4)]


def test_an_engine_of_another_gpu_asks_for_a_new_build(tmp_path):
    world = World(gpu="8.6")
    loaded = fake_bindings("10.15", world)
    plan = plan_of(loaded, tmp_path)
    world.gpu = "8.7"
    with pytest.raises(ArtifactError, match=r"Cannot load x\.engine: it was built for another GPU\. Build it again"):
        loaded.deserialize(loaded.runtime(), plan, "x.engine")


@pytest.mark.parametrize("version", ALL)
def test_timing_caches_are_found_out_without_a_warning(version):
    loaded = fake_bindings(version)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert loaded.has_timing_caches(loaded.builder().create_builder_config()) is (version != "rtx-1.7")


def test_compute_capabilities_are_those_of_the_module():
    loaded = fake_bindings("rtx-1.7")
    config = loaded.builder().create_builder_config()
    assert loaded.capabilities() == ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")
    loaded.set_capabilities(config, ("8.6", "12.0"))
    assert [one.name for one in config._capabilities] == ["SM86", "SM120"]
    with pytest.raises(ConfigError, match=r"compute capability 9\.0; it knows 7\.5, 8\.0"):
        loaded.set_capabilities(config, ("9.0", "8.6"))


@pytest.mark.parametrize("version", VERSIONS)
def test_tensorrt_itself_builds_only_for_the_gpu_that_is_here(version):
    loaded = fake_bindings(version)
    with pytest.raises(ConfigError, match="builds for the GPU that is here"):
        loaded.set_capabilities(loaded.builder().create_builder_config(), ("8.6",))


@pytest.mark.parametrize("version", ALL)
def test_data_types_have_our_names(version):
    loaded = fake_bindings(version)
    types = loaded.module.DataType
    assert [loaded.dtype_name(types[name]) for name in ("FLOAT", "HALF", "BF16")] == ["float32", "float16", "bfloat16"]
    assert loaded.numpy_dtype(types.HALF) == "float16"
    assert loaded.numpy_dtype(types.BF16).itemsize == 2
    with pytest.raises(MimiEdgeError, match="FP8"):
        loaded.dtype_name(types.FP8)


# What is logged.


def test_logs_keep_what_is_said_while_somebody_listens():
    loaded = fake_bindings("10.3")
    severity = loaded.module.ILogger.Severity
    loaded.logger.log(severity.ERROR, "before")
    with loaded.listening() as outer:
        loaded.logger.log(severity.WARNING, "twice")
        with loaded.listening() as inner:
            loaded.logger.log(severity.WARNING, "twice")
            loaded.logger.log(severity.INTERNAL_ERROR, "bad")
            loaded.logger.log(severity.INFO, "chatter")
    loaded.logger.log(severity.ERROR, "after")
    assert (outer.errors, outer.warnings) == (("bad",), ("twice",))
    assert [entry.text for entry in inner.entries] == ["twice", "bad"]


# The fakes themselves.


def test_a_fake_has_exactly_the_recorded_names():
    module = fake_module("11.4")
    with pytest.raises(AttributeError):
        _ = module.BuilderFlag.FP16
    with pytest.raises(AttributeError):
        _ = module.ICudaEngine.device_memory_size
    config = module.Builder(bindings_of(module, Backend.TRT).logger).create_builder_config()
    with pytest.raises(AttributeError, match="int8_calibrator"):
        config.int8_calibrator = None
    with pytest.raises(NotImplementedError, match=r"IBuilderConfig\.set_tactic_sources"):
        config.set_tactic_sources(0)


@pytest.mark.parametrize("version", ALL)
def test_a_fake_makes_up_no_class(version):
    recorded = surface(version)
    assert {name for name in vars(fake_module(version)) if name[0].isupper()} <= set(recorded)


def test_recorded_rtx_is_what_is_installed():
    rtx = pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT for RTX is not installed")
    found, recorded = surface_of(rtx.tensorrt_rtx), surface("rtx-1.7")
    for name, behaviour in BEHAVIOUR.items():
        used = {one for one in behaviour if not one.startswith("__")} & set(recorded[name])
        assert used <= set(found[name]), name
    if rtx.__version__ == fake_module("rtx-1.7").__version__:
        assert found == recorded
