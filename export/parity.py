"""Whether an exported graph answers what was trained: the same outputs, the same top-1, the same accuracy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mimi_edge.errors import ExportMismatchError
from mimi_edge.images.preprocessing import Preprocessing, normalise
from mimi_edge.tasks.stores import Floats
from mimi_edge.tasks.task import SplitAccuracy

TOLERANCE = 1e-3
"""Largest allowed difference of two runtimes' fp32 logits, as a share of the largest logit.

Round-off alone gives 1e-7 to 1e-6 on the families supported (ViT, DeiT, Swin, Swin V2, up to Swin-T). A thousand times
that leaves room for other processors' order of sums, and is far below what one wrong weight matrix gives.
"""
BATCH = 32
NAMES = ("The exported graph", "torch")
"""What messages call the graph and its reference."""
ADVICE = "Install the versions in constraints.txt, and export again."


class Runnable(Protocol):
    """Anything that turns normalised images, float32 [B, 3, H, W], into logits, float32 [B, C]."""

    def run(self, images: Floats) -> Floats:
        """The logits."""
        ...


@dataclass(frozen=True)
class OutputCheck:
    """How close a graph's logits are to the reference's.

    Attributes:
        images: how many were compared.
        largest_difference: between two logits.
        relative_difference: the same as a share of the largest logit.
        tolerance: that the relative difference had to keep to.
        same_top1: images with the same best class.
        near_ties: images with another best class, but where the reference's two best are closer than the tolerance.
    """

    images: int
    largest_difference: float
    relative_difference: float
    tolerance: float
    same_top1: int
    near_ties: int


@dataclass(frozen=True)
class AccuracyCheck:
    """A graph's accuracy over a whole split, against the task file's.

    Attributes:
        images: in the split.
        right: that the graph got right.
        expected_right: that the task file says.
        near_ties: images whose two best classes are closer than the tolerance; that many may differ.
        tolerance: as a share of the largest logit.
    """

    images: int
    right: int
    expected_right: int
    near_ties: int
    tolerance: float

    @property
    def accuracy(self) -> float:
        """The graph's top-1 accuracy, 0..1."""
        return self.right / self.images


def check_outputs(
    model: Runnable,
    reference: Floats,
    images: Floats,
    tolerance: float = TOLERANCE,
    *,
    names: tuple[str, str] = NAMES,
    advice: str = ADVICE,
) -> OutputCheck:
    """Compares a graph's logits with the reference's.

    Args:
        model: the graph in its runtime.
        reference: logits [n, C] for the same images.
        images: normalised, [n, 3, H, W].
        tolerance: as a share of the largest logit.
        names: of the graph and of the reference, for messages.
        advice: what to do about a mismatch.

    Raises:
        ExportMismatchError: they differ by more, or in the best class where it is not a near-tie.
    """
    check = measure_outputs(model, reference, images, tolerance, names=names)
    # Written so that a difference that is not a number fails too.
    if not (check.relative_difference <= tolerance and check.same_top1 + check.near_ties == len(images)):
        raise ExportMismatchError(f"{_output_mismatch(check, names)} {advice}")
    return check


def measure_outputs(
    model: Runnable, reference: Floats, images: Floats, tolerance: float, *, names: tuple[str, str] = NAMES
) -> OutputCheck:
    """The figures of `check_outputs`, whatever they are.

    Raises:
        ExportMismatchError: the logits have another shape.
    """
    got = np.concatenate([model.run(images[start:stop]) for start, stop in _batches(len(images))])
    if got.shape != reference.shape:
        raise ExportMismatchError(
            f"{names[0]} gives outputs {list(got.shape)}; {names[1]} gives {list(reference.shape)}. Export again."
        )
    scale = float(np.abs(reference).max())
    difference = float(np.abs(got - reference).max())
    other = got.argmax(axis=1) != reference.argmax(axis=1)
    ties = other & (_margins(reference) <= tolerance * scale)
    return OutputCheck(
        images=len(images),
        largest_difference=difference,
        relative_difference=difference / scale if scale else difference,
        tolerance=tolerance,
        same_top1=int((~other).sum()),
        near_ties=int(ties.sum()),
    )


def count_right(model: Runnable, images: NDArray[np.uint8], labels: NDArray[Any], preprocessing: Preprocessing) -> int:
    """How many images a graph gets right; images [n, H, W, 3] as `fit` makes them, labels [n] indices of classes."""
    return int((_split_logits(model, images, preprocessing).argmax(axis=1) == labels).sum())


def check_accuracy(
    model: Runnable,
    images: NDArray[np.uint8],
    labels: NDArray[Any],
    expected: SplitAccuracy,
    preprocessing: Preprocessing,
    *,
    tolerance: float = TOLERANCE,
    name: str = NAMES[0],
    advice: str = "Export again.",
) -> AccuracyCheck:
    """Counts a graph's right answers over a whole split and compares with what the task file says.

    Args:
        model: the graph in its runtime.
        images: [n, H, W, 3] as `fit` makes them.
        labels: [n], indices of classes.
        expected: of the same split, from the task file.
        preprocessing: of the task.
        tolerance: what counts as a near-tie, as a share of the largest logit.
        name: of the graph, for messages.
        advice: what to do about a mismatch.

    Raises:
        ExportMismatchError: the counts differ by more than there are near-ties, or the split has another size.
    """
    if len(images) != expected.images:
        raise ExportMismatchError(
            f"The task file's accuracy is of {expected.images} images, the split has {len(images)}. "
            "Export with the data that the task was trained with."
        )
    logits = _split_logits(model, images, preprocessing)
    check = AccuracyCheck(
        images=len(images),
        right=int((logits.argmax(axis=1) == labels).sum()),
        expected_right=round(expected.accuracy * expected.images),
        near_ties=int((_margins(logits) <= tolerance * float(np.abs(logits).max())).sum()),
        tolerance=tolerance,
    )
    if not np.isfinite(logits).all() or abs(check.right - check.expected_right) > check.near_ties:
        raise ExportMismatchError(
            f"{name} gets {check.right} of {check.images} images right, the task file says "
            f"{check.expected_right}, and only {check.near_ties} are near-ties. {advice} If it stays so, check "
            "that the images are those the task was trained with."
        )
    return check


def _split_logits(model: Runnable, images: NDArray[np.uint8], preprocessing: Preprocessing) -> Floats:
    return np.concatenate(
        [model.run(normalise(images[start:stop], preprocessing)) for start, stop in _batches(len(images))]
    )


def _margins(logits: Floats) -> Floats:
    """How far the best logit is above the second best, for each image."""
    best = np.partition(logits, -2, axis=1)[:, -2:]
    margins: Floats = best[:, 1] - best[:, 0]
    return margins


def _batches(count: int) -> Iterator[tuple[int, int]]:
    for start in range(0, count, BATCH):
        yield start, min(start + BATCH, count)


def _output_mismatch(check: OutputCheck, names: tuple[str, str]) -> str:
    return (
        f"{names[0]} does not answer what {names[1]} answers on {check.images} images: expected a difference of at "
        f"most {check.tolerance:g} of the largest logit, got {check.relative_difference:.3g}; same top-1 on "
        f"{check.same_top1}, near-ties {check.near_ties}. Nothing was published."
    )
