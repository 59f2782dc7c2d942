"""How long things take: several runnables measured in turns, in random order, with every sample kept.

A runnable is a plain callable that returns when its work is done, so torch, ONNX Runtime and TensorRT are all measured
by this code; one that works on another device waits for that device before it returns.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np

from mimi_edge.errors import ConfigError
from mimi_edge.events import Advance, Listener, silent

Runnable = Callable[[], object]
Clock = Callable[[], int]
"""Gives nanoseconds that never go back."""

NANOSECONDS_PER_MS = 1_000_000
SEEN, ALIKE, UNSURE = "yes", "no difference seen", "too busy to tell"
WIDEST_ALIKE = 1.1
"""Upper over lower end of the widest interval that still says that two things are alike."""
REPORTED_ADVANCES = 20
"""Progress is told this often at most: who listens may draw on a screen, and that costs the next sample."""


@dataclass(frozen=True)
class WarmUp:
    """When runnables count as warm: the median of the last few samples no longer differs from that of those before.

    Attributes:
        window: samples in each of the two medians.
        tolerance: largest relative difference of the two, 0.05 being 5 %.
        most_rounds: give up waiting after as many rounds; the samples then say what they say.
    """

    window: int = 5
    tolerance: float = 0.05
    most_rounds: int = 50

    def __post_init__(self) -> None:
        """Refuses values without a meaning.

        Raises:
            ConfigError: a window or tolerance that is not positive, or fewer than no rounds.
        """
        if self.window < 1 or self.tolerance <= 0 or self.most_rounds < 0:
            raise ConfigError(f"A warm-up needs window >= 1, tolerance > 0 and most_rounds >= 0, got {self}.")


@dataclass(frozen=True)
class Share:
    """How many of an artefact's samples one of its processes took.

    Attributes:
        samples: of `Samples.latency_ns`.
        warm_up: of `Samples.warm_up_ns`.
        turn_starts: of `Samples.turn_starts_ns`.
        settled: whether its times had become steady when the warm-up ended.
    """

    samples: int
    warm_up: int
    turn_starts: int
    settled: bool


@dataclass(frozen=True)
class Samples:
    """What one runnable took.

    Attributes:
        latency_ns: one value for each round; index r of two runnables are of the same round. Of several processes those
            of the first come first, then those of the second, and so on.
        warm_up_ns: what it took before it counted as warm, likewise.
        settled: whether the warm-up ended because samples had become steady: those of all runnables of `measure`, or,
            of artefacts in processes of their own, those of all of its processes.
        turn_starts_ns: where a turn is several samples, the first one after others had their turn, which finds caches
            cold and threads asleep; it is no part of `latency_ns`.
        shares: of its processes, in order; empty where one took all of them.
    """

    latency_ns: tuple[int, ...]
    warm_up_ns: tuple[int, ...]
    settled: bool
    turn_starts_ns: tuple[int, ...] = ()
    shares: tuple[Share, ...] = ()

    def __post_init__(self) -> None:
        """Refuses shares that are not of these samples.

        Raises:
            ConfigError: they do not add up.
        """
        sums = tuple(
            sum(getattr(share, name) for share in self.shares) for name in ("samples", "warm_up", "turn_starts")
        )
        counts = tuple(map(len, (self.latency_ns, self.warm_up_ns, self.turn_starts_ns)))
        if self.shares and (sums != counts or min(share.samples for share in self.shares) < 1):
            raise ConfigError(f"Shares of processes add up to {sums} samples, warm-ups and turn starts, not {counts}.")

    @property
    def processes(self) -> int:
        """That took them."""
        return max(1, len(self.shares))

    @property
    def by_process(self) -> tuple[tuple[int, ...], ...]:
        """`latency_ns`, apart by process."""
        return _parted(self.latency_ns, [share.samples for share in self.shares])

    @property
    def warm_up_by_process(self) -> tuple[tuple[int, ...], ...]:
        """`warm_up_ns`, apart by process."""
        return _parted(self.warm_up_ns, [share.warm_up for share in self.shares])

    @property
    def turn_samples(self) -> int:
        """Successive samples of one process that were taken in one turn."""
        starts = len(self.turn_starts_ns)
        return -(-len(self.latency_ns) // starts) if starts else 1


def _parted(values: tuple[int, ...], counts: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    ends = list(accumulate(counts or [len(values)]))
    return tuple(values[start:end] for start, end in zip([0, *ends], ends, strict=False))


@dataclass(frozen=True)
class LatencySummary:
    """Percentiles (linear interpolation), mean, extremes and jitter in milliseconds of `count` samples.

    Jitter is the median of the absolute differences of successive samples: what somebody feels who asks for one answer
    after the other. Unlike a standard deviation or a range of percentiles it does not grow when clocks or temperature
    drift slowly, and single outliers do not move it. Of one sample it is 0.
    """

    p50_ms: float
    p90_ms: float
    p99_ms: float
    mean_ms: float
    min_ms: float
    max_ms: float
    jitter_ms: float
    count: int


@dataclass(frozen=True)
class Ratio:
    """Median of one thing over median of another, with an interval.

    Attributes:
        value: the ratio.
        low: lower end of the interval.
        high: upper end.
        confidence: share of such intervals that hold the true ratio.
        correlation: of one turn with the next; 0 where turns are independent, None where it was not looked at.
        spread: standard deviation between processes of the same thing, a share of the figure; None where each had one.
    """

    value: float
    low: float
    high: float
    confidence: float
    correlation: float | None = None
    spread: float | None = None

    @property
    def difference_seen(self) -> bool:
        """Whether the interval leaves 1 out."""
        return not self.low <= 1 <= self.high

    @property
    def verdict(self) -> str:
        """`SEEN`, `ALIKE`, or `UNSURE` where the interval holds 1 and too much else to call the two alike."""
        if self.difference_seen:
            return SEEN
        return ALIKE if self.high / self.low <= WIDEST_ALIKE else UNSURE


@dataclass
class _Turns:
    """Samples of each runnable so far."""

    runnables: Mapping[str, Runnable]
    clock: Clock
    random: np.random.Generator
    samples: dict[str, list[int]] = field(init=False)

    def __post_init__(self) -> None:
        self.samples = {name: [] for name in self.runnables}

    def take(self) -> None:
        """Runs every runnable once, in an order of its own."""
        names = list(self.runnables)
        for position in self.random.permutation(len(names)):
            name = names[position]
            self.samples[name].append(_timed(self.runnables[name], self.clock))


def measure(
    runnables: Mapping[str, Runnable],
    *,
    rounds: int,
    seed: int = 0,
    warm_up: WarmUp | None = None,
    clock: Clock = time.perf_counter_ns,
    listener: Listener = silent,
    stage: str = "latency",
) -> dict[str, Samples]:
    """Times runnables in turns: each once a round, in a new random order every round.

    So what slows the machine for a while hits all of them alike, and none always runs after the same other one.
    Python's garbage collector rests meanwhile.

    Args:
        runnables: by name.
        rounds: samples of each, after the warm-up.
        seed: of the orders.
        warm_up: when they count as warm; by default `WarmUp()`.
        clock: gives nanoseconds.
        listener: hears how far it is.
        stage: what to call this to the listener.

    Raises:
        ConfigError: there is nothing to run, or less than one round.
    """
    if not runnables or rounds < 1:
        raise ConfigError(f"Nothing to measure: expected a runnable and a round, got {len(runnables)} and {rounds}.")
    random = np.random.default_rng(seed)
    with _no_garbage_collection():
        warm, settled = _warm_up(_Turns(runnables, clock, random), warm_up or WarmUp())
        timed = _Turns(runnables, clock, random)
        step = max(1, rounds // REPORTED_ADVANCES)
        for done in range(rounds):
            if done % step == 0:
                listener(Advance(stage, done, rounds))
            timed.take()
    listener(Advance(stage, rounds, rounds))
    return {name: Samples(tuple(timed.samples[name]), tuple(warm[name]), settled) for name in runnables}


def summarise(latency_ns: Sequence[int]) -> LatencySummary:
    """Percentiles, mean, extremes and jitter of samples in nanoseconds."""
    values_ms = np.asarray(latency_ns, np.float64) / NANOSECONDS_PER_MS
    p50, p90, p99 = np.percentile(values_ms, (50, 90, 99))
    return LatencySummary(
        p50_ms=float(p50),
        p90_ms=float(p90),
        p99_ms=float(p99),
        mean_ms=float(values_ms.mean()),
        min_ms=float(values_ms.min()),
        max_ms=float(values_ms.max()),
        jitter_ms=float(np.median(np.abs(np.diff(values_ms)))) if len(values_ms) > 1 else 0.0,
        count=len(values_ms),
    )


def _timed(runnable: Runnable, clock: Clock) -> int:
    started = clock()
    runnable()
    return clock() - started


def _warm_up(turns: _Turns, warm_up: WarmUp) -> tuple[dict[str, list[int]], bool]:
    """Takes turns until all samples are steady; says whether they became so."""
    for _ in range(warm_up.most_rounds):
        turns.take()
        if all(is_steady(samples, warm_up) for samples in turns.samples.values()):
            return turns.samples, True
    return turns.samples, False


def is_steady(samples: Sequence[int], warm_up: WarmUp) -> bool:
    """Whether the median of the last samples no longer differs from that of those before."""
    if len(samples) < 2 * warm_up.window:
        return False
    before = float(np.median(samples[-2 * warm_up.window : -warm_up.window]))
    now = float(np.median(samples[-warm_up.window :]))
    return abs(now - before) <= warm_up.tolerance * before


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
