"""Whether an engine answers what ONNX Runtime answers in fp32: outputs, best classes, and accuracy.

How far fp32, fp16 and bf16 may be off follows from their round-off u (2^-24, 2^-11, 2^-8). About a hundred rounded
operations lie one behind the other in twelve blocks; independent errors add up to u * sqrt(100), and a factor of two is
for those that are not independent:

- fp32: 1e-6. The tolerance is `export.checking`'s 1e-3, with the same reasons.
- fp16: 5e-4 * 10 * 2 = 1e-2. ONNX Runtime's own fp16 is 5e-4 off on Swin-T.
- bf16: 4e-3 * 10 * 2 = 8e-2.
- int8: its error is of another kind, a step of a scale, and no number follows from theory. It is judged by accuracy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimi_edge.choices import Precision
from mimi_edge.errors import ExportMismatchError, MimiEdgeError
from mimi_edge.export.checking import TOLERANCE as FP32_TOLERANCE
from mimi_edge.export.checking import (
    AccuracyCheck,
    OutputCheck,
    Runnable,
    check_accuracy,
    check_outputs,
    count_right,
    measure_outputs,
)
from mimi_edge.export.engines.bisecting import Bisection
from mimi_edge.images.preprocessing import Preprocessing
from mimi_edge.tasks.stores import Floats
from mimi_edge.tasks.task import SplitAccuracy

TOLERANCES: Mapping[Precision, float] = {
    Precision.FP32: FP32_TOLERANCE,
    Precision.FP16: 1e-2,
    Precision.BF16: 8e-2,
}
"""Largest difference of logits, as a share of the largest logit."""

REBUILD = "Export it again with --precision fp32, or report the layer."


@dataclass(frozen=True)
class Split:
    """Labelled images.

    Attributes:
        name: of the split, such as `test`.
        images: [n, S, S, 3] as `fit` makes them.
        labels: [n], indices of classes.
        expected: the accuracy that the task file has for this split; None where it has none.
    """

    name: str
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    expected: SplitAccuracy | None = None


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

    @property
    def was_run(self) -> bool:
        """Whether the engine was held against anything."""
        return not isinstance(self.outputs, str)

    def document(self) -> dict[str, Any]:
        """The same in JSON's types."""
        return {
            "reference": self.reference,
            "outputs": self.outputs if isinstance(self.outputs, str) else asdict(self.outputs),
            "judged_by": self.judged_by,
            "accuracy": self.accuracy if isinstance(self.accuracy, str) else dict(self.accuracy),
        }


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
    report: Split | None = None,
    judge: Split | None = None,
    max_accuracy_drop: float = 0.0,
    find_worst: Callable[[], Bisection] | None = None,
) -> Proof:
    """Holds an engine against fp32.

    Outputs of fp32, fp16 and bf16 have to keep to the tolerance and give the same best class wherever that is not a
    near-tie. The accuracy over `report` has to be the task file's, up to near-ties. Int8 has to keep its accuracy over
    `judge` within `max_accuracy_drop`; without `judge` the share of images whose best class changes, which no drop can
    exceed, has to. `report` decides nothing about int8.

    Args:
        engine: what is proved.
        reference: the same task in fp32, or its logits [n, C].
        images: real ones, normalised, [n, 3, S, S].
        precision: of the engine.
        name: of the engine, for messages.
        reference_name: of the reference.
        preprocessing: of the task; needed for the splits.
        report: the split to report the accuracy of: the test split.
        judge: the split that int8 is judged by: the validation split.
        max_accuracy_drop: of int8, as a share of 0..1.
        find_worst: finds the layer to name in a mismatch.

    Raises:
        ExportMismatchError: the engine is off by more; the worst layer is named where it can be found.
    """
    try:
        outputs = _outputs(engine, reference, images, precision, (name, reference_name))
        judged_by = f"a tolerance of {outputs.tolerance:g}"
        if precision is Precision.INT8:
            judged_by = _judge_int8(engine, outputs, judge, preprocessing, max_accuracy_drop, name)
        accuracy = _accuracy(engine, precision, report, preprocessing, name)
    except ExportMismatchError as mismatch:
        raise _with_layer(mismatch, find_worst) from mismatch
    return Proof(reference_name, outputs, judged_by, accuracy)


def _outputs(
    engine: Runnable, reference: Runnable | Floats, images: Floats, precision: Precision, names: tuple[str, str]
) -> OutputCheck:
    logits = reference if isinstance(reference, np.ndarray) else reference.run(images)
    if precision is Precision.INT8:
        return measure_outputs(engine, logits, images, 0.0, names=names)
    return check_outputs(engine, logits, images, TOLERANCES[precision], names=names, advice=REBUILD)


def _judge_int8(
    engine: Runnable,
    outputs: OutputCheck,
    judge: Split | None,
    preprocessing: Preprocessing | None,
    max_drop: float,
    name: str,
) -> str:
    """Says by what int8 was found good enough."""
    if not np.isfinite(outputs.largest_difference):
        raise ExportMismatchError(f"{name} gives values that are no numbers. Nothing was published. {REBUILD}")
    if judge is not None and judge.expected is not None and preprocessing is not None:
        accuracy = count_right(engine, judge.images, judge.labels, preprocessing) / len(judge.images)
        drop, what = judge.expected.accuracy - accuracy, f"drop of accuracy on the {judge.name} split"
    else:
        drop, what = 1 - outputs.same_top1 / outputs.images, "share of images with another best class"
    if drop > max_drop:
        raise ExportMismatchError(
            f"{name} loses too much in int8: {what} {drop:.4f}, expected at most {max_drop:g}. "
            "Nothing was published. Use --precision fp16, or allow more with --max-accuracy-drop."
        )
    return f"{what}: {max(drop, 0.0):.4f} of at most {max_drop:g}"


def _accuracy(
    engine: Runnable, precision: Precision, report: Split | None, preprocessing: Preprocessing | None, name: str
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
        tolerance=TOLERANCES[precision],
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
