"""Whether an engine answers what ONNX Runtime answers in fp32: outputs, best classes, and accuracy.

How far fp32, fp16 and bf16 may be off follows from their round-off u (2^-24, 2^-11, 2^-8). About a hundred rounded
operations lie one behind the other in twelve blocks; independent errors add up to u * sqrt(100), and a factor of two is
for those that are not independent:

- fp32: 1e-6. The tolerance is `export.checking`'s 1e-3, with the same reasons.
- fp16: 5e-4 * 10 * 2 = 1e-2. ONNX Runtime's own fp16 is 5e-4 off on Swin-T. Where a kernel adds up in fp16, too, as
  fused attention may, sums rounded every 16 terms were simulated to be off by up to 7e-3 (ViT-S; ViT-B 5e-3, Swin-T
  2e-3). That fits as well, but larger networks may not: up to three times the tolerance, the accuracy on the
  validation split decides.
- bf16: 4e-3 * 10 * 2 = 8e-2.
- int8: its error is of another kind, a step of a scale, and no number follows from theory. It is judged by accuracy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mimi_edge.choices import Precision
from mimi_edge.errors import ExportMismatchError, MimiEdgeError
from mimi_edge.export.engines.proof.bisection import Bisection
from mimi_edge.export.parity import TOLERANCE as FP32_TOLERANCE
from mimi_edge.export.parity import (
    AccuracyCheck,
    OutputCheck,
    Runnable,
    check_accuracy,
    check_outputs,
    count_right,
    measure_outputs,
)
from mimi_edge.images.decode import LabelledImages
from mimi_edge.images.preprocessing import Preprocessing
from mimi_edge.tasks.stores import Floats

TOLERANCES: Mapping[Precision, float] = {
    Precision.FP32: FP32_TOLERANCE,
    Precision.FP16: 1e-2,
    Precision.BF16: 8e-2,
}
"""Largest difference of logits, as a share of the largest logit."""
JUDGED_BY_ACCURACY: Mapping[Precision, float] = {Precision.FP16: 3e-2}
"""Up to which difference the accuracy may still speak for an engine."""

REBUILD = "Export it again with --precision fp32, or report the layer."


@dataclass(frozen=True)
class Proof:
    """What was compared, for the sidecar.

    Attributes:
        reference: what the engine was held against.
        outputs: how close the logits are, or "not run: why".
        judged_by: what decided that the engine is good, or "not run: why".
        accuracy: over a split, or "not run: why".
    """

    reference: str
    outputs: OutputCheck | str
    judged_by: str
    accuracy: Mapping[str, Any] | str

    def document(self) -> dict[str, Any]:
        """The same in JSON's types."""
        return {
            "reference": self.reference,
            "outputs": self.outputs if isinstance(self.outputs, str) else asdict(self.outputs),
            "judged_by": self.judged_by,
            "accuracy": self.accuracy if isinstance(self.accuracy, str) else dict(self.accuracy),
        }


def nobody() -> None:
    """There is no split to judge by."""
    return


def not_run(why: str) -> Proof:
    """The proof of an engine that could not be run here.

    Args:
        why: such as "there is no GPU".
    """
    text = f"not run: {why}"
    return Proof("none", text, text, text)


def prove(
    engine: Runnable,
    reference: Runnable | Floats,
    images: Floats,
    precision: Precision,
    *,
    name: str = "the engine",
    reference_name: str = "ONNX Runtime fp32",
    preprocessing: Preprocessing | None = None,
    report: LabelledImages | None = None,
    judge: Callable[[], LabelledImages | None] = nobody,
    max_accuracy_drop: float = 0.0,
    find_worst: Callable[[], Bisection] | None = None,
) -> Proof:
    """Holds an engine against fp32.

    Outputs of fp32, fp16 and bf16 have to keep to the tolerance and give the same best class wherever that is not a
    near-tie; in fp16 up to three times the tolerance will do if the accuracy over `judge` stays. The accuracy over
    `report` has to be the task file's, up to near-ties. Int8 has to keep its accuracy over `judge` within
    `max_accuracy_drop`; without `judge` the share of images whose best class changes, which no drop can exceed, has to.
    `report` decides nothing about int8.

    Args:
        engine: what is proved.
        reference: the same task in fp32, or its logits [n, C].
        images: real ones, normalised, [n, 3, H, W].
        precision: of the engine.
        name: of the engine, for messages.
        reference_name: of the reference.
        preprocessing: of the task; needed for the splits.
        report: the split to report the accuracy of: the test split.
        judge: gives the split that accuracy is judged by, the validation split, if that has to be.
        max_accuracy_drop: of int8, or of fp16 beyond its tolerance, as a share of 0..1.
        find_worst: finds the layer to name in a mismatch.

    Raises:
        ExportMismatchError: the engine is off by more; the worst layer is named where it can be found.
    """
    try:
        if precision is Precision.INT8:
            logits = _logits(reference, images)
            outputs = measure_outputs(engine, logits, images, 0.0, names=(name, reference_name))
            judged_by = _judge_int8(engine, outputs, judge(), preprocessing, max_accuracy_drop, name)
        else:
            outputs, judged_by = _judge_outputs(
                engine,
                _logits(reference, images),
                images,
                precision,
                names=(name, reference_name),
                drop=lambda: _drop(engine, judge(), preprocessing),
                max_drop=max_accuracy_drop,
            )
        accuracy = _accuracy(engine, precision, outputs.tolerance, report, preprocessing, name)
    except ExportMismatchError as mismatch:
        raise _with_layer(mismatch, find_worst) from mismatch
    return Proof(reference_name, outputs, judged_by, accuracy)


def _logits(reference: Runnable | Floats, images: Floats) -> Floats:
    return reference if isinstance(reference, np.ndarray) else reference.run(images)


def _judge_outputs(
    engine: Runnable,
    logits: Floats,
    images: Floats,
    precision: Precision,
    *,
    names: tuple[str, str],
    drop: Callable[[], tuple[float, str] | None],
    max_drop: float,
) -> tuple[OutputCheck, str]:
    """Compares logits, and asks for the accuracy where they alone do not decide; says by what they were judged."""
    tolerance = TOLERANCES[precision]
    try:
        checked = check_outputs(engine, logits, images, tolerance, names=names, advice=REBUILD)
    except ExportMismatchError as mismatch:
        wider = JUDGED_BY_ACCURACY.get(precision, tolerance)
        outputs = measure_outputs(engine, logits, images, wider, names=names)
        found = drop() if outputs.relative_difference <= wider else None
        if found is None:
            raise
        lost, split = found
        if lost > max_drop:
            raise ExportMismatchError(
                f"{mismatch} Its accuracy on the {split} split drops by {lost:.4f}; at most {max_drop:g} is allowed."
            ) from mismatch
        return outputs, f"accuracy on the {split} split: a drop of {max(lost, 0.0):.4f} of at most {max_drop:g}"
    return checked, f"a tolerance of {tolerance:g}"


def _drop(
    engine: Runnable, split: LabelledImages | None, preprocessing: Preprocessing | None
) -> tuple[float, str] | None:
    """How much accuracy the engine loses over a split, and the split's name; None where nobody can say."""
    if split is None or split.expected is None or preprocessing is None:
        return None
    right = count_right(engine, split.images, split.labels, preprocessing)
    return split.expected.accuracy - right / len(split.images), split.name


def _judge_int8(
    engine: Runnable,
    outputs: OutputCheck,
    judge: LabelledImages | None,
    preprocessing: Preprocessing | None,
    max_drop: float,
    name: str,
) -> str:
    """Says by what int8 was found good enough."""
    if not np.isfinite(outputs.largest_difference):
        raise ExportMismatchError(f"{name} gives values that are no numbers. Nothing was published. {REBUILD}")
    if (found := _drop(engine, judge, preprocessing)) is not None:
        drop, what = found[0], f"drop of accuracy on the {found[1]} split"
    else:
        drop, what = 1 - outputs.same_top1 / outputs.images, "share of images with another best class"
    if drop > max_drop:
        raise ExportMismatchError(
            f"{name} loses too much in int8: {what} {drop:.4f}, expected at most {max_drop:g}. "
            "Nothing was published. Use --precision fp16, or allow more with --max-accuracy-drop."
        )
    return f"{what}: {max(drop, 0.0):.4f} of at most {max_drop:g}"


def _accuracy(
    engine: Runnable,
    precision: Precision,
    tolerance: float,
    report: LabelledImages | None,
    preprocessing: Preprocessing | None,
    name: str,
) -> dict[str, Any] | str:
    if report is None or preprocessing is None or not len(report.images):
        return "not run: no labelled images were given"
    if precision is Precision.INT8 or report.expected is None:
        right = count_right(engine, report.images, report.labels, preprocessing)
        count = len(report.images)
        return {"split": report.name, "images": count, "right": right, "accuracy": right / count}
    check: AccuracyCheck = check_accuracy(
        engine,
        report.images,
        report.labels,
        report.expected,
        preprocessing,
        tolerance=tolerance,
        name=name,
        advice=REBUILD,
    )
    return asdict(check) | {"split": report.name, "accuracy": check.accuracy}


def _with_layer(mismatch: ExportMismatchError, find_worst: Callable[[], Bisection] | None) -> ExportMismatchError:
    """The mismatch with the layer it comes from; that it could not be found must not hide the mismatch."""
    if find_worst is None:
        return mismatch
    try:
        return ExportMismatchError(f"{mismatch}\n{find_worst().sentence()}")
    except MimiEdgeError as error:
        return ExportMismatchError(f"{mismatch}\nThe layer it comes from could not be found: {error}")
