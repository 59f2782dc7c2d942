"""Limits on what may change from one report to the next, such as `latency_p50>1.05`: what CI stops at.

A limit is broken where the figure is beyond it and, if the figure has an interval, all of the interval is, too: where
only the figure is beyond, the samples do not tell. With `strict` the figure alone decides.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mimi_edge.errors import ConfigError
from mimi_edge.profiles.report_comparison import METRICS, Change, Comparison

_CONDITION = re.compile(r"\s*([a-z0-9_]+)\s*([<>])\s*([-+]?[0-9.]+(?:e[-+]?[0-9]+)?)\s*")


@dataclass(frozen=True)
class Limit:
    """What must not be.

    Attributes:
        metric: one of `METRICS`.
        above: whether figures above the bound are refused, else those below.
        bound: of the ratio B / A; for `accuracy_drop` of the difference A - B.
        text: as it was given.
    """

    metric: str
    above: bool
    bound: float
    text: str

    def is_beyond(self, value: float) -> bool:
        """Whether a figure is refused."""
        return value > self.bound if self.above else value < self.bound


@dataclass(frozen=True)
class Verdict:
    """What a limit says about a comparison.

    Attributes:
        limit: as it was given.
        judged: how many figures were looked at.
        broken: in words, where it is broken.
        unsure: in words, where the figure is beyond it and its interval is not.
    """

    limit: str
    judged: int
    broken: tuple[str, ...]
    unsure: tuple[str, ...]


def parsed_limits(texts: Sequence[str]) -> list[Limit]:
    """Limits as people write them.

    Raises:
        ConfigError: one cannot be understood; every fault is named.
    """
    found = [_parsed(text) for text in texts]
    if faults := [text for text, limit in zip(texts, found, strict=True) if limit is None]:
        raise ConfigError(
            "--fail-if takes METRIC>NUMBER or METRIC<NUMBER, such as latency_p50>1.05; "
            f"got {', '.join(map(repr, faults))}. Metrics are {', '.join(METRICS)}."
        )
    return [limit for limit in found if limit is not None]


def judge(comparison: Comparison, limits: Sequence[Limit], *, strict: bool = False) -> list[Verdict]:
    """What each limit says.

    An artefact, or a batch of it, that report A has and B lacks breaks every limit: a figure that is gone is not good.

    Args:
        comparison: of the reports.
        limits: all of them are looked at.
        strict: a figure beyond a limit breaks it, whatever its interval.

    Raises:
        ConfigError: no artefact has the figure of a limit in both reports.
    """
    verdicts = [_verdict(comparison, limit, strict) for limit in limits]
    if blind := [verdict.limit for verdict in verdicts if not verdict.judged]:
        raise ConfigError(
            f"Nothing to hold against {', '.join(blind)}: no artefact has that figure in both reports. "
            "Measure it in both."
        )
    return verdicts


def verdict_document(verdict: Verdict) -> dict[str, Any]:
    """A verdict as JSON has it."""
    return asdict(verdict)


def _parsed(text: str) -> Limit | None:
    match = _CONDITION.fullmatch(text)
    try:
        if match is None or match[1] not in METRICS or not math.isfinite(bound := float(match[3])):
            return None
    except ValueError:
        return None
    return Limit(match[1], match[2] == ">", bound, text.strip())


def _verdict(comparison: Comparison, limit: Limit, strict: bool) -> Verdict:
    judged = [change for change in comparison.changes if change.metric == limit.metric]
    beyond = [change for change in judged if limit.is_beyond(change.value)]
    sure = [change for change in beyond if strict or _is_sure(limit, change)]
    gone = tuple(f"{name}: B does not have it" for name in comparison.only_a)
    unsure = tuple(_in_words(change) for change in beyond if change not in sure)
    return Verdict(limit.text, len(judged), (*map(_in_words, sure), *gone), unsure)


def _is_sure(limit: Limit, change: Change) -> bool:
    """Whether the end of the interval that is nearer to the bound is beyond it, too."""
    nearer = change.low if limit.above else change.high
    return nearer is None or limit.is_beyond(nearer)


def _in_words(change: Change) -> str:
    interval = "" if change.low is None else f" ({change.low:.4g} to {change.high:.4g})"
    return f"{change.where}: {change.value:.4g}{interval}"
