"""How many times as long one thing takes as another, where each ran in processes of its own, and what that is worth.

A process is faster or slower than the next one of the same thing, wherever its memory happens to lie, and what slows a
machine lasts longer than one turn. So a process is one look at the artefact, however many samples it takes: between
processes figures scatter by all of that together, and the interval is Student's over them. Where each side has a
single process nothing tells how these scatter; then successive turns count for as many as they are worth, and the usual
scatter of processes is added.

All of it is done on logarithms, so that a ratio and its inverse are worth the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from mimi_edge.errors import ConfigError
from mimi_edge.events import Listener, silent
from mimi_edge.profiles.latency import Ratio, Runnable, Samples, measure

Values = NDArray[np.float64]
Statistic = Callable[[Values], Values]
"""[..., samples] to [figures, ...]: several figures of each row at once."""

CONFIDENCE = 0.95
RESAMPLES = 400
RESAMPLES_AT_ONCE = 100
USUAL_SPREAD = 0.01
"""Standard deviation between processes of one artefact, taken where there is one process a side; docs/benchmarks.md."""
MOST_CORRELATED = 0.95
FEWEST_LOOKS = 2.0
WIDEST = math.log(100.0)
"""No interval says less than a hundredfold either way: there is nothing more to learn from it."""
ANGLES = 4_001


def medians(values: Values) -> Values:
    """The one figure that profiles compare."""
    return np.median(values, axis=-1)[None]


def ratio(measured: Samples, reference: Samples, *, resamples: int = RESAMPLES, seed: int = 0) -> Ratio:
    """Median of one over median of the other, both sampled in turns in the same rounds.

    Of several processes it is the geometric mean of their medians.

    Raises:
        ConfigError: a side has no samples.
    """
    random = np.random.default_rng(seed)
    return ratios(measured, reference, medians, together=True, random=random, resamples=resamples)[0]


def measured_ratio(measured: Runnable, reference: Runnable, *, rounds: int = 200, listener: Listener = silent) -> Ratio:
    """Times two runnables of this process in turns and gives the ratio of their medians with its interval."""
    samples = measure({"measured": measured, "reference": reference}, rounds=rounds, listener=listener)
    return ratio(samples["measured"], samples["reference"])


def ratios(
    measured: Samples,
    reference: Samples,
    statistic: Statistic,
    *,
    together: bool,
    random: np.random.Generator,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
) -> list[Ratio]:
    """Ratios of several figures at once.

    Args:
        measured: samples of one thing.
        reference: of the other.
        statistic: the figures.
        together: whether both took turns in the same rounds; what slowed the machine then hit both, and cancels. Where
            they did not, it is part of the interval as far as it moved within either.
        random: of the draws.
        resamples: how many times turns are drawn again.
        confidence: of the intervals, between 0 and 1.

    Raises:
        ConfigError: a side has no samples, or is in rounds of its own although it should be `together`.
    """
    sides = _Side.of(measured, statistic), _Side.of(reference, statistic)
    if together and sides[0].turns.shape[1:] != sides[1].turns.shape[1:]:
        raise ConfigError(
            f"A ratio needs samples of the same rounds, got {len(measured.latency_ns)} and "
            f"{len(reference.latency_ns)} samples. Measure both in one run."
        )
    values = sides[0].figures.mean(axis=1) - sides[1].figures.mean(axis=1)
    within = _within(sides, statistic, together, random, resamples)
    between = _between(*sides)
    halves = np.minimum(WIDEST, _halves(within, between, together, confidence))
    return [
        Ratio(
            value=math.exp(value),
            low=math.exp(value - half),
            high=math.exp(value + half),
            confidence=confidence,
            correlation=None if np.isnan(correlation) else float(correlation),
            spread=None if between is None else float(between.spread[index]),
        )
        for index, (value, half, correlation) in enumerate(zip(values, halves, within.correlation, strict=True))
    ]


@dataclass(frozen=True)
class _Side:
    """One thing's samples.

    Attributes:
        turns: [processes, turns, samples].
        figures: logarithms of each process's, [figures, processes].
    """

    turns: Values
    figures: Values

    @staticmethod
    def of(samples: Samples, statistic: Statistic) -> _Side:
        shortest = min(map(len, samples.by_process))
        if not shortest:
            raise ConfigError("A ratio needs samples of both sides, and one has none. Measure both.")
        block = min(samples.turn_samples, shortest)
        whole = shortest // block * block
        turns = np.asarray([one[:whole] for one in samples.by_process], np.float64)
        figures = np.stack([statistic(np.asarray(one, np.float64)) for one in samples.by_process], axis=1)
        return _Side(turns.reshape(len(turns), -1, block), _log(figures))


def _log(figures_ns: Values) -> Values:
    """Of what took a nanosecond or more; no clock tells less apart."""
    logarithms: Values = np.log(np.maximum(figures_ns, 1.0))
    return logarithms


# Between processes.


@dataclass(frozen=True)
class _Between:
    """How processes of the same thing scatter.

    Attributes:
        spread: standard deviation of one process, by figure.
        error: of the difference of both sides' means, by figure.
        freedom: degrees of it.
    """

    spread: Values
    error: Values
    freedom: int


def _between(measured: _Side, reference: _Side) -> _Between | None:
    """None where each side has a single process."""
    counts = [side.figures.shape[1] for side in (measured, reference)]
    freedom = sum(counts) - len(counts)
    if not freedom:
        return None
    squares = sum(side.figures.var(axis=1) * side.figures.shape[1] for side in (measured, reference))
    spread = np.sqrt(squares / freedom)
    return _Between(spread, spread * math.sqrt(sum(1 / count for count in counts)), freedom)


# Within them.


@dataclass(frozen=True)
class _Within:
    """How much the difference of both sides moves with the turns that were drawn, by figure.

    Attributes:
        error: its standard deviation if turns were independent, made larger for what they have in common.
        looks: as how many independent turns they count.
        correlation: of one turn with the next; not a number where there are too few.
    """

    error: Values
    looks: Values
    correlation: Values


def _within(
    sides: tuple[_Side, _Side], statistic: Statistic, together: bool, random: np.random.Generator, resamples: int
) -> _Within:
    turns = [_of_turns(side, statistic) for side in sides]
    if together:
        draws = list(_drawn(sides[0].turns.shape[1], resamples, random))
        moved = _moved(sides[0], statistic, draws) - _moved(sides[1], statistic, draws)
        return _judged(moved.std(axis=1), turns[0] - turns[1])
    parts = [
        _judged(_moved(side, statistic, _drawn(side.turns.shape[1], resamples, random)).std(axis=1), series)
        for side, series in zip(sides, turns, strict=True)
    ]
    return _Within(
        error=np.hypot(parts[0].error, parts[1].error),
        looks=np.minimum(parts[0].looks, parts[1].looks),
        correlation=np.fmax(parts[0].correlation, parts[1].correlation),
    )


def _of_turns(side: _Side, statistic: Statistic) -> Values:
    """Logarithms of the figures of each turn, over all processes, [figures, turns]."""
    logarithms: Values = _log(statistic(side.turns)).mean(axis=1)
    return logarithms


def _drawn(turns: int, resamples: int, random: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Turns drawn again, [draws, turns], some draws at a time so that memory stays small."""
    for start in range(0, resamples, RESAMPLES_AT_ONCE):
        yield random.integers(0, turns, (min(RESAMPLES_AT_ONCE, resamples - start), turns))


def _moved(side: _Side, statistic: Statistic, draws: Iterator[NDArray[np.int64]] | list[NDArray[np.int64]]) -> Values:
    """Logarithms of the side's figures with turns drawn again, the same of all its processes, [figures, draws]."""
    processes = len(side.turns)
    parts = [statistic(side.turns[:, drawn].reshape(processes, len(drawn), -1)) for drawn in draws]
    logarithms: Values = _log(np.concatenate(parts, axis=2)).mean(axis=1)
    return logarithms


def _judged(error: Values, series: Values) -> _Within:
    """What independent draws say of turns that are not independent."""
    count = series.shape[1]
    correlation = _correlation(series)
    tied = np.clip(np.nan_to_num(correlation), 0.0, MOST_CORRELATED)
    looks = np.maximum(min(FEWEST_LOOKS, count), count * (1 - tied) / (1 + tied))
    return _Within(error * np.sqrt((1 + tied) / (1 - tied)), looks, correlation)


def _correlation(series: Values) -> Values:
    """Of each value with the next, by row; an estimate from few values is too small on average, so it is raised.

    M. G. Kendall, Note on bias in the estimation of autocorrelation, Biometrika 41 (1954): by (1 + 3 r) / n.
    """
    count = series.shape[1]
    apart = series - series.mean(axis=1, keepdims=True)
    squares = (apart**2).sum(axis=1)
    if count <= 2:
        return np.full(len(series), np.nan)
    products = (apart[:, 1:] * apart[:, :-1]).sum(axis=1)
    found = np.divide(products, squares, out=np.zeros_like(squares), where=squares > 0)
    raised: Values = np.minimum(1.0, found + np.maximum(0.0, (1 + 3 * found) / count))
    return raised


# Both.


def _halves(within: _Within, between: _Between | None, together: bool, confidence: float) -> Values:
    """Half the width of each interval."""
    chance = (1 + confidence) / 2
    normal = NormalDist().inv_cdf(chance)
    inside = np.asarray([_of_looks(chance, looks) for looks in within.looks]) * within.error
    inside = np.where(within.looks <= 1, WIDEST, inside)
    if between is None:
        return np.hypot(inside, normal * USUAL_SPREAD * math.sqrt(2))
    outside = student_quantile(chance, between.freedom) * between.error
    # What moves with the turns scatters the processes, too, unless it hit all of them at once.
    return np.maximum(outside, normal * within.error) if together else np.hypot(outside, inside)


def _of_looks(chance: float, looks: float) -> float:
    return student_quantile(chance, max(1.0, looks - 1))


def student_quantile(chance: float, freedom: float) -> float:
    """The quantile of Student's distribution above its middle.

    With t = sqrt(f) tan(a) its density over the angle a is proportional to cos(a)^(f - 1).

    Args:
        chance: 0.5 and above, below 1.
        freedom: degrees, 1 and above.
    """
    angles = np.linspace(0.0, math.pi / 2, ANGLES)
    density = np.cos(angles) ** (freedom - 1)
    area = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    angle = float(np.interp(2 * chance - 1, area / area[-1], angles))
    return math.sqrt(freedom) * math.tan(angle)
