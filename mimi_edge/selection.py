"""Which neurons stay: the selection half of MiMi's algorithm (arXiv 2311.03873, Algorithm 1).

Every kind of selection puts all living neurons in one order, best first, and keeps the longest beginning that fits. A
selection is therefore exact: one more of the next neuron would not have fitted. The kinds differ in who competes with
whom: sites form groups, the best of a group come first, and groups take turns in proportion to their shares.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mimi_edge.budgets import largest_that_fits
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


@dataclass(frozen=True)
class Stages:
    """Which stage of the network each site is in, and how the stages share what stays.

    Attributes:
        of: numbers of stages from 0, by site.
        shares: a number larger than zero for each stage; only their proportions matter.
    """

    of: Mapping[str, int]
    shares: tuple[float, ...]


def ranking(scores: Mapping[str, Scores], scope: Scope, stages: Stages | None = None) -> list[Neuron]:
    """All neurons, best first; ties go to the earlier site and the lower number.

    Args:
        scores: by site, in the order of the sites, one score for each neuron, compared in fp32.
        scope: which sites compete with one another.
        stages: of the sites, where the scope asks for them.
    """
    turns = []
    for share, sites in _groups(scores, scope, stages):
        entries = [
            (-value, order, index, site)
            for order, site in sites
            for index, value in enumerate(scores[site].astype(np.float32).tolist())
        ]
        for rank, (_, order, index, site) in enumerate(sorted(entries)):
            # Being among the best tenth of what a group may keep means the same in all groups.
            turns.append(((rank + 1) / share, order, rank, Neuron(site, index)))
    return [neuron for *_, neuron in sorted(turns, key=lambda turn: turn[:3])]


def _groups(
    scores: Mapping[str, Scores], scope: Scope, stages: Stages | None
) -> Iterator[tuple[float, list[tuple[int, str]]]]:
    """Groups of sites that compete with one another: the share of each, and its sites with their place in the order."""
    sites = list(enumerate(scores))
    match scope:
        case Scope.GLOBAL:
            yield 1, sites
        case Scope.LOCAL:
            yield from ((len(scores[site]), [(order, site)]) for order, site in sites)
        case Scope.STAGES:
            if stages is None:
                raise AssertionError("nobody said which stages there are")
            for stage, share in enumerate(stages.shares):
                yield share, [(order, site) for order, site in sites if stages.of[site] == stage]


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

    length = largest_that_fits(0, len(ranked), lambda length: fits(counted(length)))
    kept: dict[str, list[int]] = {site: [] for site in names}
    for neuron in ranked[:length]:
        kept[neuron.site].append(neuron.index)
    return Selection(
        kept={site: tuple(sorted(indices)) for site, indices in kept.items()},
        next=ranked[length] if length < len(ranked) else None,
    )
