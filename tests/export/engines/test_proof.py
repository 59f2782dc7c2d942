from __future__ import annotations

import json

import numpy as np
import pytest
from fake_runtime import machine
from running_samples import CLASSES, built, images, own_graph, reference, task_weights

from mimi_edge.choices import Precision
from mimi_edge.errors import EngineBuildError, ExportMismatchError
from mimi_edge.export.engines.proof.bisection import Bisection, Seen
from mimi_edge.export.engines.proof.proof import TOLERANCES, not_run, prove
from mimi_edge.export.engines.running.executor import Plan
from mimi_edge.export.engines.running.one_task import EngineRunner
from mimi_edge.images.decode import LabelledImages
from mimi_edge.images.preprocessing import Preprocessing, normalise
from mimi_edge.tasks.task import SplitAccuracy

PREPROCESSING = Preprocessing(4, 4, "nearest", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


class Table:
    """A model that computes logits by a function."""

    def __init__(self, function) -> None:
        self.run = function


def linear(batch):
    weights = np.random.default_rng(3).standard_normal((48, CLASSES)).astype(np.float32)
    return batch.reshape(len(batch), -1) @ weights


def off(share):
    """The same, wrong by this share of the largest logit at one logit."""

    def run(batch):
        logits = linear(batch)
        logits[0, logits[0].argmin()] -= share * np.abs(logits).max()
        return logits

    return run


def split(name="test", count=40, right=None):
    pixels = np.random.default_rng(5).integers(0, 256, (count, 4, 4, 3), np.uint8)
    best = linear(normalise(pixels, PREPROCESSING)).argmax(axis=1)
    labels = best.copy()
    labels[: count // 4] = (labels[: count // 4] + 1) % CLASSES
    share = 1 - (count // 4) / count if right is None else right
    return LabelledImages(pixels, labels, name=name, expected=SplitAccuracy(share, count))


def test_a_proof_says_everything_that_was_compared():
    proof = prove(Table(linear), Table(linear), images(40), Precision.FP16, report=split(), preprocessing=PREPROCESSING)
    document = json.loads(json.dumps(proof.document(), allow_nan=False))
    assert document["outputs"]["same_top1"] == document["outputs"]["images"] == 40
    assert document["judged_by"] == "a tolerance of 0.01"
    assert (document["accuracy"]["split"], document["accuracy"]["accuracy"]) == ("test", 0.75)
    assert document["reference"] == "ONNX Runtime fp32"


def test_what_was_not_run_says_so():
    document = not_run("there is no GPU").document()
    assert set(document) == set(prove(Table(linear), Table(linear), images(1), Precision.FP32).document())
    assert document["outputs"] == document["accuracy"] == "not run: there is no GPU"
    assert prove(Table(linear), linear(images(2)), images(2), Precision.FP32).accuracy.startswith("not run")


@pytest.mark.parametrize("precision", list(TOLERANCES))
def test_each_precision_has_its_tolerance(precision):
    tolerance = TOLERANCES[precision]
    prove(Table(off(tolerance * 0.9)), Table(linear), images(20), precision)
    with pytest.raises(ExportMismatchError, match="my engine does not answer what ONNX Runtime fp32 answers") as caught:
        prove(Table(off(tolerance * 1.5)), Table(linear), images(20), precision, name="my engine")
    assert caught.value.exit_code == 5
    assert TOLERANCES[Precision.FP32] < TOLERANCES[Precision.FP16] < TOLERANCES[Precision.BF16]


def test_fp16_that_is_a_little_further_off_is_judged_by_the_validation_split():
    options = {"preprocessing": PREPROCESSING, "max_accuracy_drop": 0.01}
    with pytest.raises(ExportMismatchError, match="does not answer"):
        prove(Table(off(0.02)), Table(linear), images(20), Precision.FP16, **options)
    proof = prove(Table(off(0.02)), Table(linear), images(20), Precision.FP16, judge=lambda: split("val"), **options)
    assert proof.judged_by == "accuracy on the val split: a drop of 0.0000 of at most 0.01"
    better = split("val", right=0.9)
    with pytest.raises(ExportMismatchError, match=r"on the val split drops by 0\.1500; at most 0\.01"):
        prove(Table(off(0.02)), Table(linear), images(20), Precision.FP16, judge=lambda: better, **options)


@pytest.mark.parametrize(("precision", "share"), [(Precision.FP16, 0.05), (Precision.FP32, 0.02)])
def test_accuracy_does_not_speak_for_what_is_far_off_or_should_be_exact(precision, share):
    with pytest.raises(ExportMismatchError, match="does not answer"):
        prove(
            Table(off(share)),
            Table(linear),
            images(20),
            precision,
            judge=lambda: split("val"),
            preprocessing=PREPROCESSING,
            max_accuracy_drop=1.0,
        )


@pytest.mark.parametrize("precision", list(Precision))
def test_what_is_no_number_is_refused_in_every_precision(precision):
    with pytest.raises(ExportMismatchError):
        prove(Table(lambda batch: linear(batch) * np.nan), Table(linear), images(4), precision, max_accuracy_drop=1.0)


def test_another_accuracy_than_the_task_files_is_refused():
    wrong = split(right=0.5)
    with pytest.raises(ExportMismatchError, match="my engine gets 30 of 40 images right, the task file says 20"):
        prove(
            Table(linear),
            Table(linear),
            images(4),
            Precision.FP32,
            name="my engine",
            report=wrong,
            preprocessing=PREPROCESSING,
        )


def turned(share):
    """Another best class for a share of the images."""

    def run(batch):
        logits = linear(batch)
        count = round(len(batch) * share)
        logits[:count] = np.roll(logits[:count], 2, axis=1)
        return logits

    return run


def test_int8_is_judged_by_the_validation_split_and_only_reports_the_test_split():
    options = {"preprocessing": PREPROCESSING, "judge": lambda: split("val"), "report": split("test", right=0.1)}
    proof = prove(Table(linear), Table(linear), images(8), Precision.INT8, **options)
    assert proof.judged_by == "drop of accuracy on the val split: 0.0000 of at most 0"
    assert proof.accuracy == {"split": "test", "images": 40, "right": 30, "accuracy": 0.75}
    with pytest.raises(ExportMismatchError, match=r"drop of accuracy on the val split 0\.\d+, expected at most 0\.01"):
        prove(Table(turned(0.9)), Table(linear), images(8), Precision.INT8, max_accuracy_drop=0.01, **options)


def test_int8_without_labels_is_judged_by_how_many_answers_change():
    engine, expected = Table(turned(0.25)), linear(images(16))
    with pytest.raises(ExportMismatchError, match=r"another best class 0\.2500, expected at most 0\.2\b"):
        prove(engine, expected, images(16), Precision.INT8, max_accuracy_drop=0.2)
    assert (
        "0.2500 of at most 0.3" in prove(engine, expected, images(16), Precision.INT8, max_accuracy_drop=0.3).judged_by
    )


def found():
    return Bisection(1e-3, (Seen("blocks.1.mlp", 0.5, 2.0, is_finite=True),), "blocks.1.mlp", "blocks.0.mlp", 0, 2)


def test_a_mismatch_names_the_layer():
    with pytest.raises(ExportMismatchError, match=r"first wrong layer is blocks\.1\.mlp") as caught:
        prove(Table(off(0.5)), Table(linear), images(4), Precision.FP32, find_worst=found)
    assert "does not answer" in str(caught.value)


def test_a_search_that_fails_does_not_hide_the_mismatch():
    def fails():
        raise EngineBuildError("no memory")

    with pytest.raises(ExportMismatchError, match=r"does not answer[\s\S]*could not be found: no memory"):
        prove(Table(off(0.5)), Table(linear), images(4), Precision.FP32, find_worst=fails)


def test_nobody_searches_where_all_is_right():
    prove(Table(linear), Table(linear), images(4), Precision.FP32, find_worst=lambda: pytest.fail("searched"))


@pytest.mark.parametrize("version", ["10.3", "10.15", "11.4"])
def test_a_running_engine_is_proved_and_a_wrong_one_is_not(tmp_path, version):
    computer = machine(version)
    graph = own_graph(tmp_path / "task.onnx", task_weights(1))
    with EngineRunner(Plan(computer.bindings, built(computer.bindings, graph), computer.gpu.open())) as runner:
        proof = prove(runner, reference(graph, images(40)), images(40), Precision.FP32)
        assert proof.outputs.same_top1 == 40
        other = own_graph(tmp_path / "other.onnx", task_weights(2))
        with pytest.raises(ExportMismatchError):
            prove(runner, reference(other, images(40)), images(40), Precision.FP32)
    computer.gpu.check()
