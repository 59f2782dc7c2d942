"""How often each class is recognised, which accuracy over all images hides where classes differ in size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

NAMED = 3
"""Classes that a sentence names."""


@dataclass(frozen=True)
class ClassRecalls:
    """Of one split.

    Attributes:
        recalls: by class, the share of its images that were recognised, 0..1; classes without images are not there.
        seen_in_training: how many of the split's images are training images too.
    """

    recalls: Mapping[str, float]
    seen_in_training: int = 0

    @property
    def balanced_accuracy(self) -> float:
        """The mean of all recalls, 0..1."""
        return sum(self.recalls.values()) / len(self.recalls)

    def sentence(self) -> str:
        """Both in few words: the mean, the lowest, and what makes them worth less."""
        lowest = sorted(self.recalls.items(), key=lambda item: item[1])[:NAMED]
        named = ", ".join(f"{label} {recall:.1%}" for label, recall in lowest)
        seen = f"; {self.seen_in_training:,} of the images were trained on" if self.seen_in_training else ""
        return f"balanced accuracy {self.balanced_accuracy:.2%}, lowest recall: {named}{seen}"

    def document(self) -> dict[str, Any]:
        """As values that JSON can hold."""
        return {
            "balanced_accuracy": self.balanced_accuracy,
            "recall": dict(self.recalls),
            "seen_in_training": self.seen_in_training,
        }


def class_recalls(
    answers: NDArray[np.int64], labels: NDArray[np.int64], classes: Sequence[str], seen_in_training: int = 0
) -> ClassRecalls:
    """Counts right answers class by class.

    Args:
        answers: [n] indices into the classes, n > 0.
        labels: [n] the right ones.
        classes: names.
        seen_in_training: how many of the images are training images too.
    """
    of_each = np.bincount(labels, minlength=len(classes))
    right = np.bincount(labels[answers == labels], minlength=len(classes))
    counts = zip(classes, right.tolist(), of_each.tolist(), strict=True)
    return ClassRecalls({name: found / count for name, found, count in counts if count}, seen_in_training)


def recalls_from_document(document: Mapping[str, Any]) -> ClassRecalls:
    """What `document` made.

    Raises:
        LookupError, TypeError, ValueError, AttributeError: it is something else.
    """
    recalls = {str(name): float(value) for name, value in document["recall"].items()}
    return ClassRecalls(recalls, int(document["seen_in_training"]))
