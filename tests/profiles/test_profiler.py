"""The whole profiler on a tiny package, every artefact in a real process of its own."""

import json
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_package import CLASSES, PREPROCESSING, SITES, SIZE, make_package

from mimi_edge.choices import Backend
from mimi_edge.errors import ConfigError, MimiEdgeError
from mimi_edge.events import Advance
from mimi_edge.export.onnx_runtime import open_graph
from mimi_edge.images.decode import LabelledImages
from mimi_edge.images.preprocessing import normalise
from mimi_edge.profiles import profiler
from mimi_edge.profiles.board.find_board import Board, BoardState
from mimi_edge.profiles.board.power import PowerReading
from mimi_edge.profiles.energy import PowerPlan
from mimi_edge.profiles.latency import WarmUp
from mimi_edge.profiles.plan import Plan
from mimi_edge.profiles.processes import COMMAND, Crew, start
from mimi_edge.profiles.profiler import profile, profile_sources
from mimi_edge.profiles.report_documents import report_document, report_from_document
from mimi_edge.profiles.runtimes.artefact import Wanted
from mimi_edge.profiles.runtimes.find import find_artefacts

FAKE = Path(__file__).parent / "fake_worker.py"
WARM_UP = WarmUp(window=2, most_rounds=4)
ONE_THREAD = Wanted(threads=1)


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    return make_package(tmp_path_factory.mktemp("profiled"), {"digits": (3, 0, 1), "latency": (1, 2, 2)})


def split_of(count):
    random = np.random.default_rng(count)
    images = random.integers(0, 256, (count, SIZE, SIZE, 3), np.uint8)
    return LabelledImages(images, random.integers(0, len(CLASSES), count), ())


SPLIT = split_of(50)


@pytest.fixture(scope="module")
def heard():
    return []


@pytest.fixture(scope="module")
def report(package, heard):
    """Two batches of a whole package, with the images of one task."""
    wanted = replace(ONE_THREAD, listener=heard.append)
    images = {"digits": replace(SPLIT, classes=CLASSES)}
    return profile_sources([package.folder], wanted, Plan((1, 3), rounds=6, processes=2, warm_up=WARM_UP), images)


def fakes(**behaviours):
    """Processes that answer, or fail, without a runtime; by the name of the artefact."""

    def command(artefact):
        return (sys.executable, "-S", str(FAKE), *behaviours.get(artefact.name, ("none", "fine")))

    return command


def faked(package, plan, **options):
    return profile(find_artefacts([package.folder], ONE_THREAD), plan, **options)


def quick(**changes):
    return replace(Plan(rounds=3, processes=1, warm_up=WARM_UP, command=fakes()), **changes)


def test_every_artefact_has_every_batch_and_the_backbone_is_the_reference(report):
    assert [one.name for one in report.artefacts] == ["backbone", "digits", "latency"]
    assert report.batches == (1, 3)
    for one in report.artefacts:
        assert one.failure is None
        assert [measured.batch for measured in one.measurements] == [1, 3]
        for measured in one.measurements:
            assert measured.summary.count == 6
            assert [len(one) for one in measured.samples.by_process] == [3, 3]
            assert min(measured.samples.latency_ns) > 0
            assert (measured.ratio is None) == (one.name == "backbone")
            assert measured.ratio is None or measured.ratio.to == "backbone"


def test_accuracy_is_that_of_the_graph_and_labels_stay_with_the_profiler(report, package):
    logits = open_graph(package.tasks["digits"].graph).run(normalise(SPLIT.images, PREPROCESSING))
    right = int((logits.argmax(axis=1) == SPLIT.labels).sum())
    assert 0 < right < 50
    found = report.artefact("digits").accuracy
    assert (found.split, found.images, found.right) == ("test", 50, right)
    recalls = [(logits.argmax(axis=1) == SPLIT.labels)[label == SPLIT.labels].mean() for label in range(len(CLASSES))]
    assert list(found.recalls.values()) == pytest.approx(recalls)
    assert list(found.recalls) == list(CLASSES)
    assert found.balanced_accuracy == pytest.approx(np.mean(recalls))
    assert report.artefact("latency").accuracy is None


def test_the_report_names_the_backbone_and_the_package(report, package):
    assert report.backbones == (package.backbone.name,)
    assert report.origins == (str(package.folder),)


def test_bytes_are_those_of_the_files_it_needs(report, package):
    digits = report.artefact("digits")
    names = {Path(path).name: size for path, size in digits.files.items()}
    expected = ("digits.onnx", "digits.safetensors", "backbone.weights")
    assert names == {name: (package.folder / name).stat().st_size for name in expected}
    assert digits.size_bytes == sum(names.values())
    assert report.storage.package_bytes == sum(path.stat().st_size for path in package.folder.iterdir())
    assert list(digits.neurons.items()) == list(zip([site.name for site in SITES], (3, 0, 1), strict=True))
    assert report.artefact("backbone").neurons is None
    assert 0 < report.artefact("backbone").gflops < digits.gflops


def test_memory_is_above_the_floor_of_the_runtime(report):
    for one in report.artefacts:
        assert 20_000_000 < one.memory.host_floor_bytes < one.memory.host_peak_bytes
        assert 0 < one.memory.host_bytes < 50_000_000
        assert one.memory.device_bytes is None


def test_preprocessing_is_timed_apart(report):
    for one in report.artefacts:
        assert one.preprocessing.source == "made up"
        assert len(one.preprocessing.total_ns) == 32
        assert min(one.preprocessing.read_ns) > 0


def test_progress_names_each_stage(report, heard):
    stages = list(dict.fromkeys(event.stage for event in heard if isinstance(event, Advance)))
    assert stages == ["preprocessing", "opening", "latency, batch 1", "latency, batch 3", "accuracy of digits"]


def test_the_document_goes_through_json_and_comes_back(report):
    text = json.dumps(report_document(report), allow_nan=False)
    assert report_from_document(json.loads(text)) == report


def test_the_report_says_where_and_how(report):
    assert report.environment.threads == 1
    assert report.environment.providers == ("CPUExecutionProvider",)
    assert report.environment.board["kind"] in {"cpu", "gpu", "jetson"}
    assert report.method["rounds"] == 6
    assert set(report.method["turns"]) == {"1", "3"}
    assert (report.method["processes_each"], report.method["why_fewer_processes"]) == (2, None)
    assert report.made.endswith("+00:00")


def test_a_worker_that_waits_takes_no_processor_time(package):
    (artefact,) = find_artefacts([package.folder / "digits.onnx"], Wanted(threads=2))
    worker = start(COMMAND)
    try:
        worker.ask({"do": "open", "opening": artefact.opening.document()})
        worker.ask({"do": "ready", "batch": 1, "shape": [3, SIZE, SIZE], "seed": 0})
        worker.ask({"do": "run", "times": 50})
        time.sleep(0.1)
        before = processor_ns(worker.process.pid)
        time.sleep(0.5)
        assert processor_ns(worker.process.pid) - before < 0.05e9
    finally:
        worker.close()


def processor_ns(pid):
    """Of all threads of a process, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * 1e9 / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize(
    ("place", "stage"),
    [
        ("open", "opening"),
        ("ready", "latency, batch 1"),
        ("run", "latency, batch 1"),
        ("memory", "memory"),
        ("classify", "accuracy"),
    ],
)
def test_a_crash_of_one_is_reported_and_the_others_go_on(package, place, stage):
    plan = quick(command=fakes(digits=(place, "segv")), batches=(1, 2))
    images = dict.fromkeys(("digits", "latency"), SPLIT)
    report = faked(package, plan, images=images)
    (failed,) = report.failed
    assert (failed.name, failed.failure.stage, failed.failure.exit_code) == ("digits", stage, -signal.SIGSEGV)
    assert len(failed.measurements) == (2 if place in {"memory", "classify"} else 0)
    for name in ("backbone", "latency"):
        assert [measured.batch for measured in report.artefact(name).measurements] == [1, 2]
        assert report.artefact(name).memory.host_bytes == 50
    assert report.artefact("latency").accuracy.images == 50
    assert report_from_document(json.loads(json.dumps(report_document(report)))) == report


def test_a_crash_of_a_further_process_is_its_artefacts_failure(package):
    started = []

    def command(artefact):
        started.append(artefact.name)
        crashes = artefact.name == "digits" and started.count("digits") == 2
        return (sys.executable, "-S", str(FAKE), *(("run", "segv") if crashes else ("none", "fine")))

    report = faked(package, quick(processes=2, command=command))
    assert started.count("digits") == 2
    (failed,) = report.failed
    assert (failed.name, failed.failure.exit_code) == ("digits", -signal.SIGSEGV)
    assert report.artefact("latency").measurements[0].samples.processes == 2


def test_there_are_no_more_processes_than_samples(package):
    report = faked(package, quick(rounds=2, processes=5))
    assert {one.measurements[0].samples.processes for one in report.artefacts} == {2}


def test_where_the_reference_fails_the_next_one_is_the_reference(package):
    report = faked(package, quick(command=fakes(backbone=("run", "exit"))))
    assert report.artefact("digits").measurements[0].ratio is None
    assert report.artefact("latency").measurements[0].ratio.to == "digits"


def test_when_all_fail_there_is_still_a_report(package):
    behaviours = dict.fromkeys(("backbone", "digits", "latency"), ("open", "kill"))
    report = faked(package, quick(command=fakes(**behaviours)))
    assert len(report.failed) == 3
    assert report.batches == ()


def test_a_graph_that_the_runtime_refuses_is_a_failure_with_its_words(package, tmp_path):
    artefacts = list(find_artefacts([package.folder], ONE_THREAD))
    artefacts[1] = replace(artefacts[1], opening=replace(artefacts[1].opening, path=tmp_path / "gone.onnx"))
    report = profile(artefacts, Plan(rounds=2, processes=1, warm_up=WARM_UP))
    (failed,) = report.failed
    assert failed.failure.stage == "opening"
    assert "gone.onnx" in failed.failure.message
    assert len(report.artefact("latency").measurements) == 1


class Meter:
    """Watts that rise while somebody reads them."""

    description = "a made-up meter"

    def read(self):
        return PowerReading(30.0, {"all": 30.0}, time.perf_counter_ns())


def board(meter, before=None, after=None):
    states = [before or BoardState()] * 2 + [after or BoardState()]
    return Board("cpu", "made up", True, meter, "it has no sensors", lambda: states.pop(0))


def test_energy_is_above_idle_and_for_each_image(package, monkeypatch):
    monkeypatch.setattr(profiler, "rested", lambda meter: PowerPlan(meter, 10.0, busy_s=0.2))
    report = faked(package, quick(power=True, batches=(1, 4)), board=board(Meter()))
    for one in report.artefacts:
        for measured in one.measurements:
            energy = measured.energy
            assert energy.images == 10 * measured.batch
            assert energy.mean_watts == pytest.approx(30)
            assert energy.joules_per_image == pytest.approx(20 * energy.seconds / energy.images)
            assert (energy.meter, energy.method) == ("a made-up meter", "trapezoid")


def test_power_without_a_meter_is_refused_before_anything_runs(package):
    def never(_artefact):
        raise AssertionError

    with pytest.raises(MimiEdgeError, match="it has no sensors"):
        faked(package, quick(power=True, command=never), board=board(None))


def test_what_makes_it_doubtful_is_marked(package):
    held = BoardState(throttling=("power limit",))
    shared = BoardState(warnings=("The GPU is shared with process 7.",))
    report = faked(package, quick(warm_up=WarmUp(most_rounds=0)), board=board(None, shared, held))
    marks = "\n".join(report.environment.marks)
    assert "shared with process 7" in marks
    assert "Held back meanwhile: power limit" in marks
    assert "Not settled when the warm-up ended: backbone, batch 1; digits, batch 1" in marks


def test_a_batch_that_an_artefact_does_not_take_at_once_is_measured_and_marked(package):
    backbone, digits, _ = find_artefacts([package.folder], ONE_THREAD)
    report = profile([backbone, replace(digits, batches=(2, 4))], quick(batches=(1, 3, 8)))
    assert [measured.batch for measured in report.artefact("digits").measurements] == [1, 3, 8]
    marked = [mark for mark in report.environment.marks if "takes 2 to 4 images" in mark]
    assert ["batch 1 " in marked[0], "batch 8 " in marked[1], len(marked)] == [True, True, 2]


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: Plan(batches=()), "got none"),
        (lambda: Plan(batches=(1, 0)), "Batches must be at least 1, .* got 1,0"),
        (lambda: Plan(batches=(1, 1)), "each comes once; got 1,1"),
        (lambda: Plan(rounds=0), "Rounds must be at least 1; got 0"),
        (lambda: Plan(processes=0), "Processes must be at least 1; got 0"),
    ],
)
def test_numbers_without_a_meaning_are_refused(make, named):
    with pytest.raises(ConfigError, match=named):
        make()


def test_images_of_another_task_are_refused(package):
    with pytest.raises(ConfigError, match=r"cats.*digits, latency"):
        faked(package, quick(), images={"cats": SPLIT})


def test_a_backend_that_is_not_installed_is_refused_before_anything_starts(package, monkeypatch):
    monkeypatch.setattr(Crew, "add", lambda *_: pytest.fail("a process was started"))
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    with pytest.raises(MimiEdgeError, match="CUDAExecutionProvider"):
        profile_sources([package.folder], Wanted(backend=Backend.ORT_CUDA))


def test_an_estimate_stands_beside_and_is_no_measurement(package):
    from mimi_edge.profiles.devices.catalogue import all_devices

    report = faked(package, quick(device=all_devices()["jetson-orin-nano-8gb"]))
    measured = report.artefact("digits").measurements[0]
    assert measured.estimate.device == "jetson-orin-nano-8gb"
    assert report_document(report)["artefacts"][1]["measurements"][0]["estimate"]["label"] == "estimate"
