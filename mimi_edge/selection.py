"""Which neurons stay: the selection half of MiMi's algorithm (arXiv 2311.03873, Algorithm 1).

Both kinds of selection put all living neurons in one order, best first, and keep the longest beginning that fits. A
selection is therefore exact: one more of the next neuron would not have fitted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mimi_edge.choices import Scope as Scope  # noqa: PLC0414  (others take it from here)
from mimi_edge.scores import Scores
from mimi_edge.sites import Neurons


@dataclass(frozen=True)
class Neuron:
    """One neuron: its site and its number there."""

    site: str
    index: int


@dataclass(frozen=True)
class Selection:
    """The neurons that stay.

    Attributes:
        kept: by site, in the order of the sites, the numbers of the neurons that stay, ascending; empty where a
            site loses all.
        next: the best neuron that did not fit, None when all stay.
    """

    kept: Mapping[str, tuple[int, ...]]
    next: Neuron | None

    @property
    def neurons(self) -> dict[str, int]:
        """How many stay at each site."""
        return {site: len(kept) for site, kept in self.kept.items()}


def ranking(scores: Mapping[str, Scores], scope: Scope) -> list[Neuron]:
    """All neurons, best first; ties go to the earlier site and the lower number.

    Args:
        scores: by site, in the order of the sites, one score for each neuron, compared in fp32.
        scope: whether sites compete with one another.
    """
    entries = []
    for order, (site, values) in enumerate(scores.items()):
        best_first = np.lexsort((np.arange(len(values)), -values.astype(np.float32)))
        for rank, index in enumerate(best_first.tolist()):
            # Within one site, being among the best tenth means the same as being so elsewhere.
            key = -float(values[index]) if scope is Scope.GLOBAL else (rank + 1) / len(values)
            entries.append((key, order, index, site))
    return [Neuron(site, index) for _, _, index, site in sorted(entries)]


def select(ranked: Sequence[Neuron], sites: Iterable[str], fits: Callable[[Neurons], bool]) -> Selection:
    """Keeps the longest beginning of the ranking that fits.

    Args:
        ranked: all neurons, best first.
        sites: all sites, in order.
        fits: whether so many neurons at each site fit; once a beginning does not, no longer one does. It must hold
            for no neurons at all.
    """
    names = list(sites)

    def counted(length: int) -> dict[str, int]:
        counts = Counter(neuron.site for neuron in ranked[:length])
        return {site: counts[site] for site in names}

    low, high = 0, len(ranked)
    while low < high:
        middle = (low + high + 1) // 2
        if fits(counted(middle)):
            low = middle
        else:
            high = middle - 1
    kept: dict[str, list[int]] = {site: [] for site in names}
    for neuron in ranked[:low]:
        kept[neuron.site].append(neuron.index)
    return Selection(
        kept={site: tuple(sorted(indices)) for site, indices in kept.items()},
        next=ranked[low] if low < len(ranked) else None,
    )
