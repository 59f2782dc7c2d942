"""How important a neuron is: named scores of which the highest stay.

`mimi` is the score of arXiv 2311.03873; the others are what its ablation holds it against. A score is a small function
of one adapter, and says what must be gathered for it on training batches (`mimi_edge.training.score_statistics` does).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mimi_edge.choices import EARLIER_SCORE_NAMES
from mimi_edge.tasks.stores import Floats

Scores = NDArray[np.float32]
T = TypeVar("T")


class Need(Enum):
    """What a score looks at beside the weights themselves."""

    NOTHING = "nothing"
    GRADIENT = "the gradient of the loss"
    CURVATURE = "the product of the loss's Hessian with its gradient"
    ACTIVATION = "how strongly neurons answer"


@dataclass(frozen=True)
class Matrices:
    """A number for each weight of an adapter: the weight itself, or something gathered for it.

    Attributes:
        down: [M, N], into the neurons.
        up: [N, M], out of them.
    """

    down: Floats
    up: Floats

    def __mul__(self, other: Matrices) -> Matrices:
        return Matrices(self.down * other.down, self.up * other.up)

    @property
    def magnitude(self) -> Scores:
        """Sum of absolute values, for each neuron."""
        return Matrices(np.abs(self.down), np.abs(self.up)).total

    @property
    def total(self) -> Scores:
        """Sum, for each neuron."""
        total: Scores = self.down.sum(axis=0) + self.up.sum(axis=1)
        return total


@dataclass(frozen=True)
class ScoredAdapter:
    """What a score may look at; what no score asked for is None.

    Attributes:
        site: name of the site.
        weights: w.
        seed: for scores that draw lots.
        gradient: g, of the loss with respect to w, a mean over some training batches.
        curvature: H g, the Hessian of that loss times its gradient.
        activation: [N], the mean of |phi(h @ down)| over the tokens of some training batches.
    """

    site: str
    weights: Matrices
    seed: int
    gradient: Matrices | None = None
    curvature: Matrices | None = None
    activation: Floats | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """M and N."""
        width, neurons = self.weights.down.shape
        return width, neurons


def mimi(adapter: ScoredAdapter) -> Scores:
    """(sum |down| + sum |up|) / (N + M): I of arXiv 2311.03873, Eq. 3, which compares sites of different size."""
    scores: Scores = l1(adapter) / np.float32(sum(adapter.shape))
    return scores


def l1(adapter: ScoredAdapter) -> Scores:
    """Sum |down| + sum |up|, whatever the size of the site: I0 of arXiv 2311.03873, L1 of all weights."""
    return adapter.weights.magnitude


def l1_mean(adapter: ScoredAdapter) -> Scores:
    """(sum |down| + sum |up|) / 2M: I0 divided by how many weights a neuron has (arXiv 2311.03873)."""
    width, _ = adapter.shape
    scores: Scores = l1(adapter) / np.float32(2 * width)
    return scores


def l1_down(adapter: ScoredAdapter) -> Scores:
    """Sum |down|: L1 of the weights into the neuron alone (arXiv 2311.03873; for filters arXiv 1608.08710)."""
    scores: Scores = np.abs(adapter.weights.down).sum(axis=0)
    return scores


def down_mean(adapter: ScoredAdapter) -> Scores:
    """Sum |down| / M: what flows into the neuron."""
    scores: Scores = np.abs(adapter.weights.down).mean(axis=0)
    return scores


def up_mean(adapter: ScoredAdapter) -> Scores:
    """Sum |up| / M: what flows out of it."""
    scores: Scores = np.abs(adapter.weights.up).mean(axis=1)
    return scores


def l1_activations(adapter: ScoredAdapter) -> Scores:
    """Mean |phi(h @ down)| over tokens: how strongly the neuron answers (arXiv 2311.03873; 1607.03250)."""
    return _gathered(adapter.activation)


def l1_gradients(adapter: ScoredAdapter) -> Scores:
    """Sum |g| over the neuron's weights: how much the loss asks them to move (arXiv 2311.03873)."""
    return _gathered(adapter.gradient).magnitude


def snip(adapter: ScoredAdapter) -> Scores:
    """Sum |w * g|: how much the loss would change without each weight, to first order (SNIP, arXiv 1810.02340)."""
    return (adapter.weights * _gathered(adapter.gradient)).magnitude


def taylor(adapter: ScoredAdapter) -> Scores:
    """|sum up * g|: how much the loss would change without the neuron, to first order (arXiv 1611.06440).

    It is what a gate at the neuron's output would feel. SNIP's absolute values, weight by weight, do not cancel; here
    weights do whose changes would make up for each other.
    """
    scores: Scores = np.abs((adapter.weights.up * _gathered(adapter.gradient).up).sum(axis=1))
    return scores


def grasp(adapter: ScoredAdapter) -> Scores:
    """Sum of w * (H g): how much gradient flow would be lost with the neuron (GraSP, arXiv 2002.07376).

    The paper scores a weight by S = -w * (H g), to first order half of what removing it adds to |g|^2, and removes
    those with the largest S. Here the highest stay, so this is -S: neurons stay that gradient would not flow without.
    """
    return (adapter.weights * _gathered(adapter.curvature)).total


def random(adapter: ScoredAdapter) -> Scores:
    """Lots, the same ones for the same site, size and seed."""
    _, neurons = adapter.shape
    entropy = [adapter.seed, zlib.crc32(adapter.site.encode()), neurons]
    scores: Scores = np.random.default_rng(entropy).random((neurons,), dtype=np.float32)
    return scores


@dataclass(frozen=True)
class Score:
    """A score, and what it needs."""

    of: Callable[[ScoredAdapter], Scores]
    needs: Need = Need.NOTHING


SCORES: Mapping[str, Score] = {
    "mimi": Score(mimi),
    "l1": Score(l1),
    "l1-mean": Score(l1_mean),
    "l1-down": Score(l1_down),
    "down-mean": Score(down_mean),
    "up-mean": Score(up_mean),
    "l1-activations": Score(l1_activations, Need.ACTIVATION),
    "l1-gradients": Score(l1_gradients, Need.GRADIENT),
    "snip": Score(snip, Need.GRADIENT),
    "taylor": Score(taylor, Need.GRADIENT),
    "grasp": Score(grasp, Need.CURVATURE),
    "random": Score(random),
}


def score_named(name: str) -> Score:
    """A score by its name, or by the one that an earlier release gave it."""
    return SCORES[EARLIER_SCORE_NAMES.get(name, name)]


def _gathered(values: T | None) -> T:
    if values is None:
        raise AssertionError("nobody gathered what this score needs")
    return values
