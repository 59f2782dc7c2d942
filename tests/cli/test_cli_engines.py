"""`mimi-edge export --format trt` and `ort-adapter`: built for real by TensorRT for RTX, or run on fakes."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest
from cli_world import Packaged, Trained, apart, ended, here, started

from mimi_edge.export.engines.running.cuda_library import why_no_driver
from mimi_edge.export.engines.shelf.shelf import read_shelf

RTX = ("--format", "trt", "--backend", "trt-rtx", "--compute-capability", "8.9")


@pytest.fixture
def package(packaged: Packaged, tmp_path: Path) -> Path:
    """A copy of the package."""
    copy = tmp_path / "package"
    shutil.copytree(packaged.folder, copy)
    return copy


def test_an_engine_is_built_where_no_gpu_is_and_says_that_it_did_not_run(package: Path, trained: Trained) -> None:
    before = {path.name for path in package.iterdir()}
    done = here("export", package, *RTX, "--run", trained.run, "--json").ended(0)
    (engine,) = done.document["packages"][str(package)]
    assert engine["name"] == "per-task.pictures.fp16"
    assert Path(engine["engine"]).stat().st_size == engine["engine_bytes"]
    assert engine["check"]["outputs"].startswith("not run: ")
    assert "training images of 1 task" in engine["check"]["overflow_looked_for_on"]
    assert "softmax" in engine["kept_fp32"].values()
    assert {path.name for path in package.iterdir()} == {*before, "engines"}
    assert "per-task.pictures.fp16" in here("inspect", package).ended(0).out
    # The package stays a package, with its tasks and without a trace of the graph that was built from.
    here("predict", package, next(iter(trained.data.rglob("*.png")))).ended(0)
    said = here("predict", package, next(iter(trained.data.rglob("*.png"))), "--backend", "trt-rtx").ended(1).err
    assert "driver" in said


@pytest.mark.parametrize("command", [("export", "package", "--format", "trt", "--backend", "trt"), ("doctor",)])
def test_without_a_driver_an_old_tensorrt_does_not_end_the_process(
    package: Path, repository: Path, command: tuple[str, ...]
) -> None:
    """The stand-in of 10.3 aborts where the real one does."""
    if why_no_driver() is None:
        pytest.skip("there is a driver")
    planted = package.parent / "planted" / "tensorrt"
    planted.mkdir(parents=True)
    module = "fake_tensorrt.fake_module('10.3', world=fake_tensorrt.World(driver=False))"
    (planted / "__init__.py").write_text(f"import fake_tensorrt\nglobals().update(vars({module}))\n")
    places = (package.parent / ".hooks", planted.parent, repository / "tests" / "export" / "engines")
    said = apart(*command, folder=package.parent, PYTHONPATH=os.pathsep.join(map(str, places)))
    assert said.code in {0, 1}, said.err
    assert "no NVIDIA driver here" in " ".join((said.out + said.err).split())
    assert not (package / "engines").exists()


def test_people_get_a_table(package: Path) -> None:
    shown = here("export", package, *RTX, "--strategy", "shared", "--mixed", "--precision", "fp32").ended(0).out
    assert "shared-mixed.fp32" in shown.replace("\n", "")
    assert "not run" in shown


def test_a_build_that_is_stopped_leaves_the_good_engine(package: Path) -> None:
    here("export", package, *RTX, "--precision", "fp32").ended(0)
    before = {name: one.sidecar for name, one in read_shelf(package).items()}
    # The engine's first module that only building needs is where the signal comes.
    process = started(
        "export",
        package,
        *RTX,
        "--precision",
        "fp32",
        folder=package.parent,
        signal_at=("mimi_edge.export.engines.export", signal.SIGINT),
    )
    ended(process).ended(130)
    assert {name: one.sidecar for name, one in read_shelf(package).items()} == before
    assert not list(package.glob(".engine*"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--format", "trt", "--batch", "8:4:x"), "'x' is not a whole number"),
        (("--format", "trt", "--mixed"), "mixed batches need strategy shared"),
        (("--format", "trt", "--weights", "random"), "--weights is of onnx"),
        (("--format", "trt", "--output", "p"), "--output is of onnx, ort-adapter, triton, embed"),
        (("--format", "onnx", "--precision", "fp16", "--task", "x"), "--precision is of trt"),
        (("--format", "trt", "--backend", "ort-cpu"), "Engines come from trt or trt-rtx"),
        (("--format", "trt", "--backend", "trt-rtx", "--compute-capability", "5.0"), "cannot build for compute"),
        (("--format", "trt", "--backend", "trt-rtx"), "--compute-capability"),
        (("--format", "trt", "--task", "no such", "--backend", "trt-rtx"), "has no task"),
        (("--format", "trt", "--backend", "trt"), "mimi-edge[trt]"),
    ],
)
@pytest.mark.usefixtures("from_an_index")
def test_options_that_make_no_sense_say_what_to_change(package: Path, options: tuple[str, ...], message: str) -> None:
    outcome = here("export", package, *options)
    assert outcome.code in {1, 2}
    assert message in outcome.err.replace("\n", " ")


def test_a_folder_of_something_else_is_no_package(trained: Trained) -> None:
    assert "is not a package" in here("export", trained.data, *RTX).ended(4).err


def test_adapters_for_onnx_runtime_answer_as_the_package_does(package: Path, trained: Trained, tmp_path: Path) -> None:
    folder = tmp_path / "adapters"
    done = here("export", package, "--format", "ort-adapter", "--output", folder, "--json").ended(0)
    (entry,) = done.document["tasks"].values()
    assert Path(entry["file"]).stat().st_size == entry["file_bytes"]
    images = sorted(trained.data.rglob("*.png"))[:3]
    answers = [here("predict", source, *images, "--json").ended(0).document for source in (package, folder)]
    assert [one["label"] for one in answers[0]["predictions"]] == [one["label"] for one in answers[1]["predictions"]]


def test_a_device_without_torch_builds_engines(package: Path, tmp_path: Path) -> None:
    outcome = apart("export", package, *RTX, "--precision", "fp32", folder=tmp_path, missing=("torch", "timm"))
    assert "per-task.pictures.fp32" in outcome.ended(0).out.replace("\n", "")


def test_backends_of_onnx_runtime_that_are_not_here_are_named(package: Path, trained: Trained) -> None:
    image = next(iter(trained.data.rglob("*.png")))
    for command in (("predict", package, image), ("profile", package)):
        assert "CUDAExecutionProvider" in here(*command, "--backend", "ort-cuda").ended(1).err
