"""Who runs when: artefacts in processes of their own take turns, in a new random order every round.

So what slows the machine for a while hits all of them alike. A single inference right after another model's finds its
caches cold and its threads asleep, which is not how it runs where it has the device for itself. So a turn of something
fast is several inferences; the first of them is kept apart.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from mimi_edge.errors import ConfigError
from mimi_edge.events import Advance, Listener, Note, silent
from mimi_edge.profiles.latency import NANOSECONDS_PER_MS, Samples, WarmUp, is_steady
from mimi_edge.profiles.processes import Crew

LONG_MS = 50.0
"""What takes as long is measured one by one: a cold start is no longer seen in it."""
WINDOW_MS = 100.0
LARGEST_WINDOW = 100
LEAST_TURNS = 20
"""As few turns as still spread the samples of each artefact over the whole time of measurement."""


@dataclass(frozen=True)
class Turn:
    """How often an artefact runs when it has its turn.

    Attributes:
        samples: that are counted.
        opener: whether one more run comes before them, whose time is kept apart.
    """

    samples: int
    opener: bool

    @staticmethod
    def of(fastest_ns: float | None, rounds: int) -> Turn:
        """The turn for artefacts of which the fastest takes so long, None where nobody knows."""
        if fastest_ns is None or fastest_ns >= LONG_MS * NANOSECONDS_PER_MS:
            return Turn(1, opener=False)
        wanted = math.ceil(LONG_MS * NANOSECONDS_PER_MS / max(1.0, fastest_ns))
        return Turn(max(1, min(wanted, rounds // LEAST_TURNS)), opener=True)


@dataclass(frozen=True)
class Taken:
    """Samples of all artefacts at one batch.

    Attributes:
        samples: by name; an artefact that failed has none.
        turn: how they were taken.
    """

    samples: dict[str, Samples]
    turn: Turn


def take_turns(
    crew: Crew,
    names: Sequence[str],
    stage: str,
    *,
    rounds: int,
    seed: int = 0,
    warm_up: WarmUp | None = None,
    listener: Listener = silent,
) -> Taken:
    """Times artefacts that are ready, in turns.

    Args:
        crew: their processes.
        names: of those to time; who fails on the way is left out, and the others go on.
        stage: what to call this in failures and to the listener.
        rounds: samples of each, after the warm-up.
        seed: of the orders.
        warm_up: when they count as warm; by default `WarmUp()`. Of something fast a window is as many samples as fill
            `WINDOW_MS`, because clocks take their time; there are at most `most_rounds / window` windows.
        listener: hears how far it is.

    Raises:
        ConfigError: there is less than one round.
    """
    if rounds < 1:
        raise ConfigError(f"Nothing to measure: expected one round or more, got {rounds}.")
    turns = _Turns(crew, tuple(names), stage, np.random.default_rng(seed))
    warm = _warmed_up(turns, warm_up or WarmUp())
    medians = [float(np.median(one.samples_ns)) for one in warm.values() if one.samples_ns]
    turn = Turn.of(min(medians, default=None), rounds)
    timed: dict[str, list[int]] = {name: [] for name in names}
    openers: dict[str, list[int]] = {name: [] for name in names}
    for done in range(0, rounds, turn.samples):
        listener(Advance(stage, done, rounds))
        for name, taken in turns.take(dict.fromkeys(names, min(turn.samples, rounds - done) + turn.opener)):
            openers[name] += taken[: int(turn.opener)]
            timed[name] += taken[int(turn.opener) :]
    listener(Advance(stage, rounds, rounds))
    samples = {
        name: Samples(
            tuple(timed[name]),
            tuple(warm[name].samples_ns),
            warm[name].steady,
            tuple(openers[name]),
        )
        for name in turns.present
    }
    for name, taken_samples in samples.items():
        if not taken_samples.settled:
            listener(Note(f"{name}, {stage}: the warm-up ended before times were steady. The machine is busy."))
    return Taken(samples, turn)


@dataclass(frozen=True)
class _Turns:
    crew: Crew
    names: tuple[str, ...]
    stage: str
    random: np.random.Generator

    @property
    def present(self) -> list[str]:
        """Those that have not failed, in the order in which they were named."""
        alive = set(self.crew.names)
        return [name for name in self.names if name in alive]

    def take(self, times: Mapping[str, int]) -> Iterator[tuple[str, list[int]]]:
        """Lets each run so many times, in an order of its own."""
        present = self.present
        for position in self.random.permutation(len(present)):
            name = present[position]
            answer = self.crew.ask(name, self.stage, {"do": "run", "times": times[name]})
            if answer is not None:
                yield name, answer["ns"]


@dataclass
class _Warming:
    """One artefact on its way to be warm."""

    rule: WarmUp
    samples_ns: list[int] = field(default_factory=list)

    @property
    def window(self) -> int:
        """Samples of its next turn: those of the rule at first, more once it is known to be fast."""
        if not self.samples_ns:
            return min(self.rule.window, self.rule.most_rounds)
        wanted = WINDOW_MS * NANOSECONDS_PER_MS / max(1.0, float(np.median(self.samples_ns)))
        return max(self.rule.window, min(LARGEST_WINDOW, math.ceil(wanted)))

    @property
    def steady(self) -> bool:
        """Whether its last two windows are alike."""
        return is_steady(self.samples_ns, replace(self.rule, window=max(1, self.window)))


def _warmed_up(turns: _Turns, warm_up: WarmUp) -> dict[str, _Warming]:
    """Takes turns until all are steady, or there were enough."""
    warming = {name: _Warming(warm_up) for name in turns.names}
    for _ in range(0, warm_up.most_rounds, warm_up.window):
        for name, taken in turns.take({name: one.window for name, one in warming.items()}):
            warming[name].samples_ns += taken
        if all(warming[name].steady for name in turns.present):
            break
    return warming
