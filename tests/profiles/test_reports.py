import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mimi_edge.errors import ArtifactError, ConfigError
from mimi_edge.events import Advance
from mimi_edge.images.decoding import DecodedSplit
from mimi_edge.images.preprocessing import Preprocessing
from mimi_edge.profiles import reports
from mimi_edge.profiles.latency import WarmUp
from mimi_edge.profiles.reports import profile_package, report_document, report_from_document
from mimi_edge.profiles.storage import package_storage
from mimi_edge.tasks.files import write_task
from mimi_edge.tasks.stores import Store
from mimi_edge.tasks.task import (
    AdapterWeights,
    BackboneIdentity,
    HeadWeights,
    SplitAccuracy,
    Task,
    TaskHeader,
    encode_weights,
)

SIZE = 4
CLASSES = ("one", "two")
QUICK = {"rounds": 5, "warm_up": WarmUp(most_rounds=2)}


def tiny_task(name, neurons):
    random = np.random.default_rng(len(name))

    def weights(*shape):
        return random.standard_normal(shape, np.float32)

    adapters = {f"blocks.{block}.mlp": AdapterWeights(weights(8, n), weights(n, 8)) for block, n in enumerate(neurons)}
    header = TaskHeader(
        name=name,
        backbone=BackboneIdentity("tiny", "0" * 64, 8),
        classes=CLASSES,
        preprocessing=Preprocessing(SIZE, SIZE, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        activation="gelu",
        store=Store.FP16,
        accuracy={"test": SplitAccuracy(0.75, 40)},
        training_sha256="0" * 64,
        versions={},
    )
    return Task(header, encode_weights(adapters, HeadWeights(weights(2, 8), weights(2)), Store.FP16))


@pytest.fixture
def package(tmp_path):
    """A folder like a package's, whose graphs are only names: the stand-in runtime below knows what they do."""
    tasks = {}
    for name, neurons in {"digits": (3, 0, 1), "latency": (1, 2, 2)}.items():
        task_file, graph = tmp_path / f"{name}.safetensors", tmp_path / f"{name}.onnx"
        write_task(tiny_task(name, neurons), task_file)
        graph.write_bytes(b"g" * len(name))
        tasks[name] = SimpleNamespace(name=name, graph=graph, task_file=task_file)
    backbone, weights = tmp_path / "backbone.onnx", tmp_path / "backbone.weights"
    backbone.write_bytes(b"b" * 100)
    weights.write_bytes(b"w" * 2000)
    (tmp_path / "manifest.json").write_text("{}")
    return SimpleNamespace(backbone_graph=backbone, backbone_weights=weights, tasks=tasks)


@pytest.fixture(autouse=True)
def ran(monkeypatch):
    """Replaces the runtime; gives a list of what ran on which shape. Every answer is class 1."""
    diary = []

    def opened(graph, threads):
        def run(images):
            diary.append((graph.stem, images.shape, images.dtype, threads))
            return np.tile(np.float32([0, 1]), (len(images), 1))

        return run

    monkeypatch.setattr(reports, "_opened", opened)
    return diary


def split_of(labels):
    return DecodedSplit(np.zeros((len(labels), SIZE, SIZE, 3), np.uint8), np.array(labels), ())


def test_storage_is_what_the_file_system_says(package, tmp_path):
    storage = package_storage(package)
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert storage.backbone_graph_bytes == sizes["backbone.onnx"] == 100
    assert storage.backbone_weights_bytes == sizes["backbone.weights"] == 2000
    assert storage.backbone_bytes == 2100
    assert storage.package_bytes == sum(sizes.values())
    assert storage.full_models_bytes == 2 * 2100
    for name, task in storage.tasks.items():
        assert (task.task_file_bytes, task.graph_bytes) == (sizes[f"{name}.safetensors"], sizes[f"{name}.onnx"])


def test_a_report_has_every_task_and_batch_with_the_backbone_first(package, ran):
    report = profile_package(package, batches=(1, 3), threads=2, **QUICK)
    assert [(found.task, found.batch) for found in report.latencies] == [
        (task, batch) for batch in (1, 3) for task in (None, "digits", "latency")
    ]
    assert all(found.summary.count == len(found.samples.latency_ns) == 5 for found in report.latencies)
    assert all((found.ratio is None) == (found.task is None) for found in report.latencies)
    assert report.latency("digits", 3).batch == 3
    assert {shape for _, shape, _, _ in ran} == {(1, 3, SIZE, SIZE), (3, 3, SIZE, SIZE)}
    assert {(dtype.name, threads) for _, _, dtype, threads in ran} == {("float32", 2)}
    assert report.environment.threads == 2
    with pytest.raises(KeyError):
        report.latency("digits", 2)


def test_bare_and_merged_graphs_take_turns(package, ran):
    profile_package(package, rounds=30, warm_up=WarmUp(most_rounds=0))
    names = [name for name, _, _, _ in ran]
    turns = [tuple(names[start : start + 3]) for start in range(0, 90, 3)]
    assert all(sorted(turn) == ["backbone", "digits", "latency"] for turn in turns)
    assert len(set(turns)) > 2


def test_tasks_tell_bytes_neurons_and_both_accuracies(package):
    splits = {"digits": split_of([1, 1, 0, 1])}
    report = profile_package(package, splits=splits, **QUICK)
    digits, latency = report.tasks
    assert digits.name == "digits"
    assert digits.storage.task_file_bytes == package.tasks["digits"].task_file.stat().st_size
    assert digits.neurons == {"blocks.0.mlp": 3, "blocks.2.mlp": 1}
    assert digits.stored_accuracy == {"test": SplitAccuracy(0.75, 40)}
    assert digits.graph_accuracy == SplitAccuracy(0.75, 4)
    assert latency.graph_accuracy is None


def test_only_the_tasks_asked_for_are_measured(package, ran):
    report = profile_package(package, tasks=["latency"], **QUICK)
    assert [task.name for task in report.tasks] == ["latency"]
    assert {name for name, *_ in ran} == {"backbone", "latency"}
    assert set(report.storage.tasks) == {"digits", "latency"}


def test_progress_names_each_stage(package):
    heard = []
    splits = {"digits": split_of([1])}
    profile_package(package, batches=(1, 2), splits=splits, listener=heard.append, **QUICK)
    stages = list(dict.fromkeys(event.stage for event in heard if isinstance(event, Advance)))
    assert stages == ["accuracy of digits", "latency, batch 1", "latency, batch 2"]


def test_the_document_goes_through_json_and_comes_back(package):
    report = profile_package(package, batches=(1, 2), splits={"digits": split_of([0, 1])}, **QUICK)
    text = json.dumps(report_document(report), allow_nan=False)
    assert report_from_document(json.loads(text)) == report


def test_the_document_has_samples_summary_and_bytes_for_readers(package):
    report = profile_package(package, **QUICK)
    document = report_document(report)
    merged = document["latencies"][1]
    assert document["schema"] == 1
    assert merged["task"] == "digits"
    assert len(merged["latency_ns"]) == 5
    assert merged["summary"]["p50_ms"] == pytest.approx(np.median(merged["latency_ns"]) / 1e6)
    assert merged["ratio"]["low"] <= merged["ratio"]["value"] <= merged["ratio"]["high"]
    assert document["storage"]["full_models_bytes"] == 4200


@pytest.mark.parametrize(
    "damage",
    [
        {"schema": 2},
        {"schema": None},
        {"environment": None},
        {"tasks": [{}]},
        {"latencies": [{"task": "digits"}]},
        {"storage": {}},
    ],
    ids=str,
)
def test_a_document_that_is_none_of_ours_is_refused(package, damage):
    document = report_document(profile_package(package, **QUICK)) | damage
    with pytest.raises(ArtifactError, match="Measure again"):
        report_from_document(document)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"tasks": ["cats"]}, "cats"),
        ({"tasks": []}, "no task"),
        ({"splits": {"cats": split_of([1])}}, "cats"),
        ({"batches": ()}, r"batches \[\]"),
        ({"batches": (1, 0)}, r"batches \[1, 0\]"),
        ({"rounds": 0}, "rounds 0"),
    ],
    ids=str,
)
def test_what_cannot_be_measured_is_refused_before_anything_runs(package, ran, options, named):
    with pytest.raises(ConfigError, match=named):
        profile_package(package, **(QUICK | options))
    assert not ran


def test_a_missing_file_is_an_error_of_the_file_system(package):
    package.backbone_weights = Path("nowhere")
    with pytest.raises(FileNotFoundError):
        profile_package(package, **QUICK)


def test_reports_differ_when_a_sample_does(package):
    report = profile_package(package, **QUICK)
    first = report.latencies[0]
    other = replace(first, samples=replace(first.samples, latency_ns=(1, *first.samples.latency_ns[1:])))
    assert report_document(replace(report, latencies=(other, *report.latencies[1:]))) != report_document(report)
