import json
from dataclasses import replace

import numpy as np
import pytest
from tiny_package import CLASSES, PREPROCESSING, SITES, SIZE, make_package

from mimi_edge.errors import ArtifactError, ConfigError
from mimi_edge.events import Advance, Note
from mimi_edge.export.onnx_runtime import open_graph
from mimi_edge.images.decoding import DecodedSplit
from mimi_edge.images.preprocessing import normalise
from mimi_edge.profiles import first_reports as reports
from mimi_edge.profiles.first_reports import profile_package, report_document, report_from_document
from mimi_edge.profiles.latency import WarmUp
from mimi_edge.profiles.storage import package_storage
from mimi_edge.tasks.task import SplitAccuracy

QUICK = {"rounds": 5, "warm_up": WarmUp(most_rounds=2), "threads": 1}


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    return make_package(tmp_path_factory.mktemp("profiled"), {"digits": (3, 0, 1), "latency": (1, 2, 2)})


@pytest.fixture
def ran(monkeypatch):
    """Notes what ran, on what shape, and how it was opened."""
    diary = []
    opened = reports._opened

    def noting(graph, threads, backend):
        run = opened(graph, threads, backend)

        def noted(images):
            diary.append((graph.stem, images.shape, images.dtype.name, threads))
            return run(images)

        return noted

    monkeypatch.setattr(reports, "_opened", noting)
    return diary


def split_of(count):
    random = np.random.default_rng(count)
    images = random.integers(0, 256, (count, SIZE, SIZE, 3), np.uint8)
    return DecodedSplit(images, random.integers(0, len(CLASSES), count), ())


def test_storage_is_what_the_file_system_says(package):
    storage = package_storage(package)
    sizes = {path.name: path.stat().st_size for path in package.folder.iterdir()}
    assert storage.backbone_graph_bytes == sizes["backbone.onnx"]
    assert storage.backbone_weights_bytes == sizes["backbone.weights"]
    assert storage.backbone_bytes == sizes["backbone.onnx"] + sizes["backbone.weights"]
    assert storage.package_bytes == sum(sizes.values())
    assert storage.full_models_bytes == 2 * storage.backbone_bytes
    assert list(storage.tasks) == ["digits", "latency"]
    for name, task in storage.tasks.items():
        assert (task.task_file_bytes, task.graph_bytes) == (sizes[f"{name}.safetensors"], sizes[f"{name}.onnx"])


def test_a_report_has_every_task_and_batch_with_the_backbone_first(package, ran):
    report = profile_package(package, batches=(1, 3), **(QUICK | {"threads": 2}))
    assert [(found.task, found.batch) for found in report.latencies] == [
        (task, batch) for batch in (1, 3) for task in (None, "digits", "latency")
    ]
    assert all(found.summary.count == len(found.samples.latency_ns) == 5 for found in report.latencies)
    assert all(min(found.samples.latency_ns) > 0 for found in report.latencies)
    assert all((found.ratio is None) == (found.task is None) for found in report.latencies)
    assert report.latency("digits", 3).batch == 3
    assert {shape for _, shape, _, _ in ran} == {(1, 3, SIZE, SIZE), (3, 3, SIZE, SIZE)}
    assert {(dtype, threads) for _, _, dtype, threads in ran} == {("float32", 2)}
    assert report.environment.threads == 2
    assert report.environment.providers == ("CPUExecutionProvider",)
    with pytest.raises(KeyError):
        report.latency("digits", 2)


def test_bare_and_merged_graphs_take_turns(package, ran):
    profile_package(package, rounds=30, warm_up=WarmUp(most_rounds=0))
    names = [name for name, _, _, _ in ran]
    turns = [tuple(names[start : start + 3]) for start in range(0, 90, 3)]
    assert all(sorted(turn) == ["backbone", "digits", "latency"] for turn in turns)
    assert len(set(turns)) > 2


def test_tasks_tell_bytes_neurons_of_every_site_and_both_accuracies(package):
    split = split_of(50)
    digits, latency = profile_package(package, splits={"digits": split}, **QUICK).tasks
    assert digits.name == "digits"
    assert digits.storage.task_file_bytes == package.tasks["digits"].task_file.stat().st_size
    assert list(digits.neurons.items()) == list(zip([site.name for site in SITES], (3, 0, 1), strict=True))
    assert digits.stored_accuracy == {"test": SplitAccuracy(0.75, 40)}
    logits = open_graph(package.tasks["digits"].graph).run(normalise(split.images, PREPROCESSING))
    right = float((logits.argmax(axis=1) == split.labels).mean())
    assert 0 < right < 1
    assert digits.graph_accuracy == SplitAccuracy(pytest.approx(right), 50)
    assert latency.graph_accuracy is None


def test_only_the_tasks_asked_for_are_measured(package, ran):
    report = profile_package(package, tasks=["latency"], **QUICK)
    assert [task.name for task in report.tasks] == ["latency"]
    assert {name for name, *_ in ran} == {"backbone", "latency"}
    assert set(report.storage.tasks) == {"digits", "latency"}


def test_progress_names_each_stage(package):
    heard = []
    profile_package(package, batches=(1, 2), splits={"digits": split_of(1)}, listener=heard.append, **QUICK)
    stages = list(dict.fromkeys(event.stage for event in heard if isinstance(event, Advance)))
    assert stages == ["accuracy of digits", "latency, batch 1", "latency, batch 2"]


def test_an_unsteady_machine_is_told_of(package):
    heard = []
    profile_package(package, rounds=2, warm_up=WarmUp(most_rounds=1), listener=heard.append)
    assert any(isinstance(event, Note) and "steady" in event.text for event in heard)


def test_the_document_goes_through_json_and_comes_back(package):
    report = profile_package(package, batches=(1, 2), splits={"digits": split_of(2)}, **QUICK)
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
    assert document["storage"]["full_models_bytes"] == 2 * report.storage.backbone_bytes


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
        ({"splits": {"cats": split_of(1)}}, "cats"),
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


def test_a_missing_file_is_an_error_of_the_file_system(package, tmp_path):
    with pytest.raises(FileNotFoundError):
        profile_package(replace(package, folder=tmp_path), **QUICK)


def test_threads_of_one_graph_do_not_spin_while_another_runs(package):
    """Else every latency of an interleaved run is that of a machine with fewer cores."""
    options = open_graph(package.backbone_graph).session.get_session_options()
    assert options.get_session_config_entry("session.force_spinning_stop") == "1"


def test_reports_differ_when_a_sample_does(package):
    report = profile_package(package, **QUICK)
    first = report.latencies[0]
    other = replace(first, samples=replace(first.samples, latency_ns=(1, *first.samples.latency_ns[1:])))
    assert report_document(replace(report, latencies=(other, *report.latencies[1:]))) != report_document(report)
