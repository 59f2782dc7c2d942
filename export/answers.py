"""What logits say: classes with their probabilities, best first; or nothing, where they are not finite."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mimi_edge.errors import MimiEdgeError
from mimi_edge.tasks.stores import Floats

Ranked = tuple[tuple[str, float], ...]
"""Classes with their probabilities, 0..1, best first."""
TOP = 5
"""Classes that are named unless it is said how many."""


class NotFiniteError(MimiEdgeError):
    """A task's answer to one image holds NaN or infinity, so it names no class.

    Attributes:
        reason: what was answered, without the image's name.
    """

    def __init__(self, task: str, image: object) -> None:
        self.reason = f"{task} answers with numbers that are not finite (NaN or infinity), so it names no class"
        super().__init__(
            f"{image}: {self.reason}. The graph or its weights are damaged, or overflow in half precision: "
            "look with mimi-edge verify, or export again."
        )


def ranked(logits: Floats, classes: Sequence[str], top: int) -> Ranked | None:
    """The most probable classes of one image.

    Args:
        logits: of the image, [C].
        classes: C names.
        top: how many to name; all of them where there are fewer.

    Returns:
        None where the logits are not finite.
    """
    if not np.isfinite(logits).all():
        return None
    probabilities = softmax(logits[None])[0]
    best = np.argsort(-probabilities, kind="stable")[:top]
    return tuple((classes[index], float(probabilities[index])) for index in best)


def softmax(logits: Floats) -> Floats:
    """Probabilities [B, C] of finite logits [B, C]."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: Floats = powers / powers.sum(axis=1, keepdims=True)
    return probabilities
