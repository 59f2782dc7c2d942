"""How important a neuron is: named scores of which the highest stay.

`mimi` is the score of arXiv 2311.03873, Eq. 4: the mean absolute weight of everything that is attached to the neuron,
so that sites of different width and size can be compared. The others are what the paper holds it against.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mimi_edge.tasks.stores import Floats

Scores = NDArray[np.float32]


@dataclass(frozen=True)
class ScoredAdapter:
    """What a score may look at.

    Attributes:
        site: name of the site.
        down: [M, N] weights into the neurons.
        up: [N, M] weights out of them.
        down_gradient: [M, N] gradient of the loss, summed over some batches; zeros where no score asks for it.
        up_gradient: [N, M] likewise.
        seed: for scores that draw lots.
    """

    site: str
    down: Floats
    up: Floats
    down_gradient: Floats
    up_gradient: Floats
    seed: int


def mimi(adapter: ScoredAdapter) -> Scores:
    """(sum |down| + sum |up|) / (N + M) for each of the N neurons."""
    width, neurons = adapter.down.shape
    scores: Scores = unscaled(adapter) / np.float32(neurons + width)
    return scores


def unscaled(adapter: ScoredAdapter) -> Scores:
    """Sum |down| + sum |up|, whatever the size of the site."""
    scores: Scores = np.abs(adapter.down).sum(axis=0) + np.abs(adapter.up).sum(axis=1)
    return scores


def down_only(adapter: ScoredAdapter) -> Scores:
    """Mean |down|: what flows into the neuron."""
    scores: Scores = np.abs(adapter.down).mean(axis=0)
    return scores


def up_only(adapter: ScoredAdapter) -> Scores:
    """Mean |up|: what flows out of it."""
    scores: Scores = np.abs(adapter.up).mean(axis=1)
    return scores


def snip(adapter: ScoredAdapter) -> Scores:
    """Sum |weight x gradient|: how much the loss would change, to first order (SNIP, arXiv 1810.02340)."""
    into = np.abs(adapter.down * adapter.down_gradient).sum(axis=0)
    scores: Scores = into + np.abs(adapter.up * adapter.up_gradient).sum(axis=1)
    return scores


def random(adapter: ScoredAdapter) -> Scores:
    """Lots, the same ones for the same site, size and seed."""
    entropy = [adapter.seed, zlib.crc32(adapter.site.encode()), adapter.down.shape[1]]
    scores: Scores = np.random.default_rng(entropy).random((adapter.down.shape[1],), dtype=np.float32)
    return scores


SCORES: Mapping[str, Callable[[ScoredAdapter], Scores]] = {
    "mimi": mimi,
    "unscaled": unscaled,
    "down": down_only,
    "up": up_only,
    "snip": snip,
    "random": random,
}
GRADIENT_SCORES = frozenset({"snip"})
"""Scores that look at gradients, which somebody has to gather first."""
