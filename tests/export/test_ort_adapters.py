from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from export_samples import FAMILIES, assert_close, random_images, random_task, task_file, torch_logits
from full_disk import room_for

from mimi_edge.choices import Backend
from mimi_edge.errors import ArtifactError, ConfigError, ExportMismatchError, MimiEdgeError
from mimi_edge.export import ort_adapters
from mimi_edge.export.open_packages import Package
from mimi_edge.export.ort_adapters import (
    OrtAdapterSet,
    export_ort_adapters,
    open_ort_adapters,
    read_ort_adapters,
)
from mimi_edge.export.packages import create_or_extend
from mimi_edge.files import sha256_of
from mimi_edge.images.image_size import ImageSize
from mimi_edge.tasks.stores import Store
from mimi_edge.tasks.task import Task
from mimi_edge.training.backbones import LoadedBackbone

IMAGES = random_images(3)


@dataclass(frozen=True)
class Home:
    """A package with tasks, and a free place beside it."""

    backbone: LoadedBackbone
    package: Package
    tasks: dict[str, Task]
    out: Path


@pytest.fixture
def home(exported, tmp_path) -> Callable[..., Home]:
    def make(family: str = "vit", stores: Sequence[Store] = (Store.FP32, Store.FP16, Store.INT8), **options) -> Home:
        backbone, graph = exported(family)
        sites = [site.name for site in backbone.sites]
        neurons = [
            {site: 1 + index for index, site in enumerate(sites)},
            {sites[-1]: 5},
            {},
        ]
        made = [
            random_task(backbone, counts, store=store, classes=2 + 2 * turn, name=f"task {turn}", seed=turn, **options)
            for turn, (counts, store) in enumerate(zip(neurons, stores, strict=True))
        ]
        folder = tmp_path / "tasks"
        folder.mkdir()
        files = [task_file(folder, task) for task in made]
        package = create_or_extend(tmp_path / "package", graph.folder, files)
        return Home(backbone, package, {task.header.name: task for task in made}, tmp_path / "out")

    return make


@pytest.mark.parametrize(("family", "padded"), [*((family, False) for family in FAMILIES), ("swin", True)])
def test_every_task_answers_what_torch_answers_whichever_was_active_before(family, padded, home):
    here = home(family)
    export_ort_adapters(here.package, here.out, padded=padded, threads=1)
    model = open_ort_adapters(here.out, threads=1)
    for name in ("task 0", "task 1", "task 2", "task 0", "task 2"):
        for batch in (1, 3):
            expected = torch_logits(here.backbone, here.tasks[name], IMAGES[:batch])
            assert_close(model.run(name, IMAGES[:batch]), expected)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_tasks_kept_in_half_precision_stay_as_small(padded, activation, home):
    here = home(stores=[Store.FP16] * 3, activation=activation)
    adapters = export_ort_adapters(here.package, here.out, padded=padded, threads=1)
    assert adapters.store is Store.FP16
    model = open_ort_adapters(here.out, threads=1)
    for name, task in here.tasks.items():
        assert_close(model.run(name, IMAGES), torch_logits(here.backbone, task, IMAGES))
        content = sum(tensor.nbytes for tensor in task.tensors.values())
        size = adapters.files[f"{name}.onnx_adapter"].size_bytes
        assert size > content
        if not padded:
            # Padding to 8 bytes, names, and the format's tables.
            assert size < content + 200 * (len(task.tensors) + 2)


def test_the_set_says_what_it_is_and_stands_alone(home, tmp_path):
    here = home()
    adapters = export_ort_adapters(here.package, here.out, ["task 1", "task 0"], threads=1)
    assert sorted(path.name for path in here.out.iterdir()) == [
        "adapters.onnx",
        "backbone.weights",
        "ort-adapters.json",
        "task 0.onnx_adapter",
        "task 1.onnx_adapter",
    ]
    assert adapters == read_ort_adapters(here.out)
    assert (adapters.backbone, adapters.input_size, adapters.padded) == (
        here.backbone.identity,
        ImageSize(32, 32),
        False,
    )
    for name in ("task 0", "task 1"):
        task = adapters.task(name)
        assert task.task_sha256 == sha256_of(here.package.tasks[name].task_file)
        assert task.classes == here.tasks[name].header.classes
        assert task.preprocessing == here.backbone.preprocessing
        assert task.check["relative_difference"] < 1e-4
    with pytest.raises(ConfigError, match="no task 'task 2'"):
        adapters.task("task 2")
    before = open_ort_adapters(here.out, threads=1).run("task 1", IMAGES)
    moved = tmp_path / "elsewhere"
    here.out.rename(moved)
    shutil.rmtree(here.package.folder)
    assert (open_ort_adapters(moved, threads=1).run("task 1", IMAGES) == before).all()


def test_the_runtimes_own_interface_is_enough(home):
    here = home(stores=[Store.FP16] * 3)
    export_ort_adapters(here.package, here.out, threads=1)
    session = onnxruntime.InferenceSession(here.out / "adapters.onnx")
    adapter = onnxruntime.LoraAdapter()
    adapter.Load(str(here.out / "task 1.onnx_adapter"))
    options = onnxruntime.RunOptions()
    options.add_active_adapter(adapter)
    (got,) = session.run(None, {"images": IMAGES}, options)
    assert_close(got, torch_logits(here.backbone, here.tasks["task 1"], IMAGES))
    # Whoever forgets to activate a task must not get an answer.
    assert np.isnan(session.run(None, {"images": IMAGES})[0]).all()


@pytest.mark.parametrize("padded", [False, True])
def test_the_graph_holds_no_weights_and_takes_adapters_of_any_width_unless_padded(padded, home):
    here = home()
    export_ort_adapters(here.package, here.out, padded=padded, threads=1)
    path = here.out / "adapters.onnx"
    onnx.checker.check_model(str(path), full_check=True)
    assert path.stat().st_size < 2 * (here.package.folder / "backbone.onnx").stat().st_size
    graph = onnx.load(path, load_external_data=False).graph
    shapes = {
        given.name: [size.dim_value or size.dim_param for size in given.type.tensor_type.shape.dim]
        for given in graph.input
    }
    assert set(shapes) - {"images"} <= {tensor.name for tensor in graph.initializer}
    assert shapes["blocks.1.mlp.down"] == [32, 5 if padded else "blocks.1.mlp.neurons"]
    assert shapes["head.bias"] == ([6] if padded else ["classes"])


def test_same_package_gives_the_same_bytes_in_another_process(home, tmp_path):
    here = home()
    export_ort_adapters(here.package, here.out, threads=1)
    script = (
        "import sys; from pathlib import Path\n"
        "for name in ('torch', 'timm', 'torchvision', 'onnxscript'): sys.modules[name] = None\n"
        "from mimi_edge.export.ort_adapters import export_ort_adapters\n"
        "from mimi_edge.export.packages import read_package\n"
        "export_ort_adapters(read_package(Path(sys.argv[1])), Path(sys.argv[2]), threads=1)\n"
    )
    again = tmp_path / "again"
    command = [sys.executable, "-c", script, str(here.package.folder), str(again)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    for path in here.out.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes(), path.name


def _altered(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _linked(path: Path) -> None:
    path.rename(path.with_name("moved"))
    path.symlink_to("moved")


@pytest.mark.parametrize("damage", [_altered, _truncated, _linked, Path.unlink])
@pytest.mark.parametrize("name", ["adapters.onnx", "backbone.weights", "task 0.onnx_adapter"])
def test_damaged_files_are_refused_before_the_runtime_sees_anything(name, damage, ready, tmp_path, monkeypatch):
    folder = tmp_path / "damaged"
    shutil.copytree(ready.folder, folder)
    damage(folder / name)
    for part in ("InferenceSession", "LoraAdapter"):
        monkeypatch.setattr(onnxruntime, part, lambda *_, **__: pytest.fail("the runtime was asked"))
    with pytest.raises(ArtifactError, match=name):
        open_ort_adapters(folder)


@pytest.fixture(scope="module")
def ready(exported, tmp_path_factory) -> OrtAdapterSet:
    """A set with one task, which tests copy."""
    backbone, graph = exported("vit")
    place = tmp_path_factory.mktemp("ready")
    file = task_file(place, random_task(backbone, {"blocks.1.mlp": 3}, name="task 0"))
    package = create_or_extend(place / "package", graph.folder, [file])
    return export_ort_adapters(package, place / "out", threads=1)


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"schema": "x"},
        {"files": []},
        {"files": {}},
        {"files": {"../secret": {"sha256": "0" * 64, "size_bytes": 6}}},
        {"tasks": {"a": {"name": "a"}}},
        {"tasks": None},
        {"backbone": {"name": "x"}},
        {"store": "fp4"},
    ],
)
def test_manifests_that_make_no_sense_or_lead_elsewhere_are_refused(change, ready, tmp_path):
    folder = tmp_path / "set"
    shutil.copytree(ready.folder, folder)
    (tmp_path / "secret").write_text("secret")
    path = folder / "ort-adapters.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ArtifactError):
        open_ort_adapters(folder)


def test_a_task_cannot_point_out_of_the_folder(ready, tmp_path):
    folder = tmp_path / "set"
    shutil.copytree(ready.folder, folder)
    path = folder / "ort-adapters.json"
    document = json.loads(path.read_text())
    document["tasks"]["task 0"]["file"] = str(ready.folder / "task 0.onnx_adapter")
    path.write_text(json.dumps(document))
    with pytest.raises(ArtifactError, match="not listed"):
        open_ort_adapters(folder)


def test_a_folder_without_a_manifest_says_how_to_make_one(tmp_path):
    with pytest.raises(ArtifactError, match="--format ort-adapter"):
        open_ort_adapters(tmp_path)


def test_images_and_tasks_that_do_not_exist_are_told(ready):
    model = open_ort_adapters(ready.folder, threads=1)
    with pytest.raises(ConfigError, match="no task 'roses'; it has task 0"):
        model.run("roses", IMAGES)
    with pytest.raises(ConfigError, match="images"):
        model.run("task 0", IMAGES[:, :, :5])


def test_tasks_that_cannot_share_a_graph_leave_nothing(home, tmp_path):
    here = home()
    other = random_task(here.backbone, {"blocks.0.mlp": 1}, activation="relu", name="other")
    package = create_or_extend(here.package.folder, None, [task_file(tmp_path, other)])
    with pytest.raises(ConfigError, match="other has relu"):
        export_ort_adapters(package, here.out)
    with pytest.raises(ConfigError, match="no task 'nobody'"):
        export_ort_adapters(package, here.out, ["nobody"])
    assert not here.out.exists()


def test_a_folder_that_is_in_use_is_left_alone(home):
    here = home()
    here.out.mkdir()
    (here.out / "mine").write_text("mine")
    with pytest.raises(ConfigError, match="exists already"):
        export_ort_adapters(here.package, here.out)
    assert [path.name for path in here.out.iterdir()] == ["mine"]
    (here.out / "mine").unlink()
    export_ort_adapters(here.package, here.out, ["task 2"], threads=1)


def test_an_answer_that_differs_is_not_published(home, monkeypatch):
    here = home()
    right = ort_adapters._tensors

    def wrong(task: Task):
        return {name: tensor * np.float32(1.01) for name, tensor in right(task).items()}

    monkeypatch.setattr(ort_adapters, "_tensors", wrong)
    with pytest.raises(ExportMismatchError, match="Task task 0 answers differently"):
        export_ort_adapters(here.package, here.out, threads=1)
    assert sorted(path.name for path in here.out.parent.iterdir()) == ["package", "tasks"]


@pytest.mark.parametrize("room", [100, 20_000])
def test_a_full_disk_leaves_nothing(room, home):
    here = home(stores=[Store.FP32] * 3)
    wide = random_task(here.backbone, {site.name: 32 for site in here.backbone.sites}, name="wide")
    package = create_or_extend(here.package.folder, None, [task_file(here.out.parent, wide)])
    with room_for(room), pytest.raises(OSError) as caught:  # noqa: PT011  (the message is the system's)
        export_ort_adapters(package, here.out, threads=1)
    assert caught.value.errno in {errno.EFBIG, errno.EIO}
    assert not here.out.exists()
    assert not list(here.out.parent.glob(".*"))


def test_an_adapter_that_the_disk_cannot_hold_is_an_os_error(home, tmp_path):
    tensors = {"head.weight": np.ones((100, 100), np.float32)}
    with room_for(8000), pytest.raises(OSError, match="could not write"):
        ort_adapters._write_adapter(onnxruntime, tmp_path / "a.onnx_adapter", tensors, Store.FP32)


def test_an_old_runtime_or_none_says_what_to_install(ready, monkeypatch):
    monkeypatch.delattr(onnxruntime, "LoraAdapter")
    with pytest.raises(MimiEdgeError, match=r"1\.20 or later, got \d"):
        open_ort_adapters(ready.folder)
    monkeypatch.setattr(ort_adapters, "runtime_version", lambda: None)
    with pytest.raises(MimiEdgeError, match="got none"):
        open_ort_adapters(ready.folder)


def test_a_backend_that_is_not_there_is_told(ready):
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    with pytest.raises(MimiEdgeError, match="CUDAExecutionProvider"):
        open_ort_adapters(ready.folder, backend=Backend.ORT_CUDA)


def test_a_file_that_is_no_adapter_is_refused_with_its_name(ready, tmp_path):
    path = tmp_path / "set" / "task 0.onnx_adapter"
    shutil.copytree(ready.folder, path.parent)
    path.write_bytes(b"nothing")
    files = {**ready.files, path.name: ort_adapters.file_entry(path)}
    ort_adapters._write_manifest(replace(ready, folder=path.parent, files=files))
    with pytest.raises(ArtifactError, match=r"task 0\.onnx_adapter"):
        open_ort_adapters(path.parent)
