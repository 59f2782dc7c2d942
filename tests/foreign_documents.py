"""Every kind of document that mimi-edge reads: how to make a whole one, and how it is read and used.

Each kind gives a document that JSON can hold, a way to lay it into a folder as bytes, and what reads it from there.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tiny_package
import yaml
from safetensors.numpy import save

from mimi_edge.budgets import Budget
from mimi_edge.export.archives.contents import Contents, read_contents
from mimi_edge.export.graphs import BACKBONE_GRAPH, METADATA_KEY, read_graph_info
from mimi_edge.export.manifest import MANIFEST, read_manifest
from mimi_edge.export.open_packages import read_package
from mimi_edge.images.written import written_split
from mimi_edge.profiles.devices.read_device import read_device
from mimi_edge.profiles.environment import Environment
from mimi_edge.profiles.fleet import measured_memory
from mimi_edge.profiles.latency import Ratio, Samples
from mimi_edge.profiles.ledger import ledger_from_document
from mimi_edge.profiles.rendering.tables import report_tables
from mimi_edge.profiles.report_comparison import compare, read_report
from mimi_edge.profiles.report_documents import report_document
from mimi_edge.profiles.reports import (
    EnergyUse,
    MeasuredAccuracy,
    MeasuredArtefact,
    Measurement,
    MemoryUse,
    Preparation,
    RatioTo,
    Report,
)
from mimi_edge.profiles.storage import PackageStorage, TaskStorage
from mimi_edge.tasks.content import CONTENT_KEY
from mimi_edge.tasks.files import read_task, task_bytes
from mimi_edge.tasks.task import SplitAccuracy


@dataclass(frozen=True)
class Kind:
    """One kind of document.

    Attributes:
        document: a whole one.
        lay: writes the JSON text, whatever is in it, to where it belongs in a folder.
        read: reads it from the folder, and uses it.
    """

    document: dict[str, Any]
    lay: Callable[[Path, bytes], object]
    read: Callable[[Path], object]


def _environment() -> Environment:
    return Environment(
        cpu="CPU",
        cores=2,
        threads=1,
        system="Linux",
        machine="x86_64",
        python="3.11",
        packages={"numpy": "2", "mimi-edge": "1"},
        providers=("CPUExecutionProvider",),
        load_average=0.5,
        board={"kind": "jetson", "facts": {"l4t": "36"}, "unified_memory": True},
        gpu={"name": "GPU"},
        marks=("odd",),
    )


def _artefact(name: str, kind: str, ratio: RatioTo | None) -> MeasuredArtefact:
    samples = Samples(tuple(range(1000, 1020)), (2000,), settled=True, turn_starts_ns=(5,))
    return MeasuredArtefact(
        name,
        kind,
        "ort-cpu",
        task=None if kind == "backbone" else name,
        files={"backbone.onnx": 100},
        neurons={"a": 1},
        gflops=0.5,
        stored_accuracy={"test": SplitAccuracy(0.5, 10)},
        accuracy=None if kind == "backbone" else MeasuredAccuracy("test", 10, 5),
        preprocessing=Preparation("made up", (1,), (2,), (3,)),
        memory=MemoryUse(10, 20),
        measurements=(Measurement(1, samples, ratio, EnergyUse(1.0, 1.0, 10, 0.1, "counter", 5, "board")),),
    )


def _report() -> dict[str, Any]:
    ratio = RatioTo("backbone", Ratio(1.1, 1.0, 1.2, 0.95))
    artefacts = (_artefact("backbone", "backbone", None), _artefact("digits", "task", ratio))
    storage = PackageStorage(10, 1000, 1100, {"digits": TaskStorage(50, 12)})
    cost = {"shared_bytes": 1, "tasks_bytes": 2, "tasks": 1, "basis": "files"}
    line = {"strategy": "onnx-package", "title": "A", "storage": cost, "memory": cost, "note": ""}
    ledger = {"backbone": "tiny", "tasks": ["digits"], "files": {"shared": 5}, "strategies": [line]}
    report = Report("2026-01-01", 0, _environment(), artefacts, {"rounds": 3}, storage, ledger)
    return json.loads(json.dumps(report_document(report)))


def _use_report(folder: Path) -> None:
    report = read_report(folder / "report.json")
    list(report_tables(report))
    compare(report, report, force=True, resamples=4)
    measured_memory(report)
    if report.ledger is not None:
        ledger_from_document(report.ledger)


def _lay_task(task: Any) -> Callable[[Path, bytes], object]:
    tensors = {name: np.ascontiguousarray(values) for name, values in task.tensors.items()}

    def lay(folder: Path, text: bytes) -> None:
        (folder / "task.safetensors").write_bytes(save(tensors, {"mimi_edge": text.decode("utf-8", "replace")}))

    return lay


def _lay_graph(folder: Path, text: bytes) -> None:
    model = onnx.load(folder / "whole" / BACKBONE_GRAPH, load_external_data=False)
    (entry,) = (one for one in model.metadata_props if one.key == METADATA_KEY)
    entry.value = text.decode("utf-8", "replace")
    (folder / "graph.onnx").write_bytes(model.SerializeToString())


def _read_split(folder: Path) -> None:
    from mimi_edge.training.config import read_split

    written_split(read_split(folder))


def _read_config(folder: Path) -> None:
    from mimi_edge.training.config import read_config

    read_config(folder)


def _config() -> dict[str, Any]:
    from mimi_edge.training.config import TrainingConfig, config_document

    return config_document(TrainingConfig(Budget(500_000))) | {"start": {"a": 1}}


def _device() -> dict[str, Any]:
    text = """
schema: 1
name: my-board
title: My board
kind: gpu
compute_capability: "8.6"
memory: 8 GiB
memory_bandwidth: 68.5 GB/s
performance: {fp32: 1.5 TFLOPS, int8: 20 TOPS}
launch_overhead: {value: 3 us, assumption: a guess}
power_modes: [{name: low, power: 7 W, memory_bandwidth: 34 GB/s}]
jetpack: [{version: "6.2", tensorrt: "10.3"}]
sources: [{title: A data sheet, publisher: Somebody}]
notes: [a note]
"""
    return yaml.safe_load(text)


def _adapters() -> dict[str, Any]:
    preprocessing = {"size": 4, "resize": 4, "interpolation": "bilinear", "mean": [0.5] * 3, "std": [0.5] * 3}
    task = {"name": "a", "file": "a.onnx_adapter", "task_sha256": "0" * 64, "classes": ["x", "y"], "check": {}}
    return {
        "schema": 1,
        "backbone": {"name": "tiny", "sha256": "7" * 64, "features": 8},
        "input_size": 4,
        "store": "fp16",
        "padded": False,
        "files": {"adapters.onnx": {"sha256": "0" * 64, "size_bytes": 5}},
        "tasks": {"a": task | {"preprocessing": preprocessing}},
    }


def _read_adapters(folder: Path) -> None:
    from mimi_edge.export.ort_adapters import read_ort_adapters

    read_ort_adapters(folder)


def _read_archive(folder: Path) -> None:
    contents, faults = read_contents((folder / MANIFEST).read_bytes())
    assert (contents is None) == bool(faults)
    assert sum(map(len, faults)) < 20_000


def _named(name: str) -> Callable[[Path, bytes], object]:
    return lambda folder, text: (folder / name).write_bytes(text)


def kinds(folder: Path) -> dict[str, Kind]:
    """Every kind, with what it needs laid into a folder."""
    package = tiny_package.make_package(folder, {"a": (3, 0, 2)})
    shutil.copytree(package.folder, folder / "whole")
    manifest = json.loads((package.folder / MANIFEST).read_text())
    archive = json.loads(Contents(read_manifest(package.folder)).manifest_bytes)
    task = tiny_package.make_task("a", (3, 0, 2))
    info = json.loads(
        next(
            p.value
            for p in onnx.load(folder / "whole" / BACKBONE_GRAPH, load_external_data=False).metadata_props
            if p.key == METADATA_KEY
        )
    )
    split = {
        "data": "x",
        "seed": 1,
        "classes": ["a", "b"],
        "splits": {"train": [["a/1", "a"]], "val": [["b/1", "b"]], "test": [["b/2", "b"]]},
    }
    return {
        "manifest": Kind(
            manifest,
            lambda place, text: (place / "whole" / MANIFEST).write_bytes(text),
            lambda place: read_package(place / "whole"),
        ),
        "archive": Kind(archive, _named(MANIFEST), _read_archive),
        "task": Kind(_description(task), _lay_task(task), lambda place: read_task(place / "task.safetensors")),
        "graph": Kind(info, _lay_graph, lambda place: read_graph_info(place / "graph.onnx")),
        "adapters": Kind(_adapters(), _named("ort-adapters.json"), _read_adapters),
        "config": Kind(_config(), _named("config.json"), _read_config),
        "split": Kind(split, _named("split.json"), _read_split),
        "report": Kind(_report(), _named("report.json"), _use_report),
        "device": Kind(_device(), _named("board.yaml"), lambda place: read_device(place / "board.yaml")),
    }


def _description(task: Any) -> dict[str, Any]:
    content = task_bytes(task)
    header = content[8 : 8 + int.from_bytes(content[:8], "little")]
    description = json.loads(json.loads(header)["__metadata__"]["mimi_edge"])
    del description[CONTENT_KEY]  # a file of an earlier release, or every change would only be found to be one
    return description
