"""Engines under the profiler, from shelf to report, on fakes of TensorRT and CUDA that really compute."""

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

ENGINES = Path(__file__).parents[1] / "export" / "engines"
sys.path.append(str(ENGINES))

import fake_runtime  # noqa: E402
from tiny_package import PREPROCESSING, SIZE, make_package  # noqa: E402

from mimi_edge.choices import Backend, Precision, Strategy  # noqa: E402
from mimi_edge.errors import ConfigError  # noqa: E402
from mimi_edge.export.engines.building.requests import BatchRange  # noqa: E402
from mimi_edge.export.engines.building.work import EngineOptions  # noqa: E402
from mimi_edge.export.engines.export import export_engines  # noqa: E402
from mimi_edge.export.onnx_runtime import open_graph  # noqa: E402
from mimi_edge.images.decode import LabelledImages  # noqa: E402
from mimi_edge.images.image_size import ImageSize  # noqa: E402
from mimi_edge.images.preprocessing import normalise  # noqa: E402
from mimi_edge.profiles.latency import WarmUp  # noqa: E402
from mimi_edge.profiles.plan import Plan  # noqa: E402
from mimi_edge.profiles.profiler import profile  # noqa: E402
from mimi_edge.profiles.runtimes.artefact import Wanted  # noqa: E402
from mimi_edge.profiles.runtimes.find import find_artefacts  # noqa: E402

WORKER = (sys.executable, str(Path(__file__).parent / "fake_gpu_worker.py"))
PLAN = Plan((1, 3), rounds=3, processes=1, warm_up=WarmUp(window=2, most_rounds=2), command=lambda _: WORKER)


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A package with an engine for each task, and one for all."""
    made = make_package(tmp_path_factory.mktemp("engines"), {"digits": (3, 0, 1), "latency": (1, 2, 2)})
    with pytest.MonkeyPatch.context() as patch:
        fake_runtime.install(patch)
        for strategy in (Strategy.PER_TASK, Strategy.SHARED):
            export_engines(made, EngineOptions(Precision.FP32, strategy, BatchRange(1, 2, 2)))
    return made


def images():
    random = np.random.default_rng(3)
    pixels = random.integers(0, 256, (20, SIZE, SIZE, 3), np.uint8)
    return LabelledImages(pixels, random.integers(0, 3, 20), ())


def test_a_package_on_tensorrt_is_the_engines_of_its_tasks(package):
    split = images()
    found = find_artefacts([package.folder], Wanted(backend=Backend.TRT))
    assert [(one.name, one.kind, one.strategy) for one in found] == [
        ("digits", "engine", "per-task"),
        ("latency", "engine", "per-task"),
    ]
    digits, *others = found
    found = [replace(digits, unproved="there was no GPU"), *others]
    report = profile(found, PLAN, {"digits": split})
    assert not report.failed, report.failed
    unproved = [mark for mark in report.environment.marks if "NOT PROVED" in mark]
    assert [("digits" in mark, "there was no GPU" in mark) for mark in unproved] == [(True, True)]
    digits = report.artefact("digits")
    logits = open_graph(package.tasks["digits"].graph).run(normalise(split.images, PREPROCESSING))
    assert digits.accuracy.right == int((logits.argmax(axis=1) == split.labels).sum())
    assert {Path(path).name for path in digits.files} == {"per-task.digits.fp32.engine", "per-task.digits.fp32.json"}
    assert digits.gflops > 0
    assert report.artefact("latency").at(3).ratio.to == "digits"
    assert any("takes 1 to 2 images: batch 3" in mark for mark in report.environment.marks)


def test_one_engine_for_all_is_an_artefact_for_each_task_and_needs_its_file(package):
    engine = package.folder / "engines" / "shared.fp32.engine"
    found = find_artefacts([engine], Wanted())
    assert [one.name for one in found] == ["shared.fp32:digits", "shared.fp32:latency"]
    report = profile(found, replace(PLAN, batches=(1,)))
    assert not report.failed, report.failed
    for one, name in zip(report.artefacts, ("digits", "latency"), strict=True):
        assert one.strategy == "shared"
        assert f"{name}.safetensors" in {Path(path).name for path in one.files}
        assert one.gflops is None
    assert [one.task for one in find_artefacts([engine], Wanted(tasks=("latency",)))] == ["latency"]


def test_an_engine_stands_beside_the_package_it_was_built_from(package):
    engine = package.folder / "engines" / "per-task.digits.fp32.engine"
    found = find_artefacts([package.folder, engine], Wanted(tasks=("digits",), threads=1))
    assert [(one.name, one.backend) for one in found] == [
        ("backbone", Backend.ORT_CPU),
        ("digits", Backend.ORT_CPU),
        ("per-task.digits.fp32", Backend.TRT),
    ]
    report = profile(found, replace(PLAN, batches=(1,)))
    assert not report.failed, report.failed
    assert report.artefact("per-task.digits.fp32").measurements[0].ratio.to == "backbone"


def copied(package, name, folder):
    for suffix in (".engine", ".json"):
        shutil.copyfile(package.folder / "engines" / f"{name}{suffix}", folder / f"{name}{suffix}")
    return folder / f"{name}.engine"


def test_a_trusted_engine_from_elsewhere_is_timed_alone(package, tmp_path):
    (found,) = find_artefacts([copied(package, "per-task.digits.fp32", tmp_path)], Wanted(trust=True))
    assert (found.task, found.preprocessing, found.input_size) == ("digits", None, ImageSize.of(SIZE))
    report = profile([found], replace(PLAN, batches=(2,)))
    assert not report.failed, report.failed
    assert report.artefacts[0].preprocessing is None


def test_a_shared_engine_from_elsewhere_needs_the_tasks(package, tmp_path):
    engine = copied(package, "shared.fp32", tmp_path)
    with pytest.raises(ConfigError, match="give their package"):
        find_artefacts([engine], Wanted(trust=True))
    found = find_artefacts([package.folder, engine], Wanted(trust=True, tasks=("digits",)))
    report = profile(found[-1:], replace(PLAN, batches=(1,)))
    assert not report.failed, report.failed
