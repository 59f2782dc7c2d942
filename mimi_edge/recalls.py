"""How often each class is recognised, and how often its name is right, which accuracy over all images hides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
        precisions: by class, the share of the images that were called so which are, 0..1; classes that were never
            answered are not there, and none is in reports of earlier releases.
    """

    recalls: Mapping[str, float]
    seen_in_training: int = 0
    precisions: Mapping[str, float] = field(default_factory=dict)

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
            "precision": dict(self.precisions),
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
    right = np.bincount(labels[answers == labels], minlength=len(classes))

    def shares(of: NDArray[np.int64]) -> dict[str, float]:
        counts = zip(classes, right.tolist(), np.bincount(of, minlength=len(classes)).tolist(), strict=True)
        return {name: found / count for name, found, count in counts if count}

    return ClassRecalls(shares(labels), seen_in_training, shares(answers))


def recalls_from_document(document: Mapping[str, Any]) -> ClassRecalls:
    """What `document` made.

    Raises:
        LookupError, TypeError, ValueError, AttributeError: it is something else.
    """
    recalls, precisions = (
        {str(name): float(value) for name, value in shares.items()}
        for shares in (document["recall"], document.get("precision", {}))
    )
    return ClassRecalls(recalls, int(document["seen_in_training"]), precisions)
