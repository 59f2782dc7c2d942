"""Who runs when: processes, some for each artefact, take turns, in a new random order every round.

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
from mimi_edge.profiles.latency import NANOSECONDS_PER_MS, Samples, Share, WarmUp, is_steady
from mimi_edge.profiles.processes import Crew

LONG_MS = 50.0
"""What takes as long is measured one by one: a cold start is no longer seen in it."""
WINDOW_MS = 100.0
LARGEST_WINDOW = 100
LEAST_TURNS = 20
"""As few turns as still spread the samples of each artefact over the whole time of measurement."""


DEFAULT_SAMPLES = 100
"""As few as still have a p99: of each process where it is fast, of all together where it is slow."""
Teams = Mapping[str, Sequence[str]]
"""The processes of each artefact by their names in the crew; all have as many."""


@dataclass(frozen=True)
class Turn:
    """How often a process runs when it has its turn.

    Attributes:
        samples: that are counted.
        opener: whether one more run comes before them, whose time is kept apart.
    """

    samples: int
    opener: bool

    @staticmethod
    def of(fastest_ns: float | None, rounds: int) -> Turn:
        """The turn for artefacts of which the fastest takes so long, None where nobody knows.

        Args:
            fastest_ns: of one run.
            rounds: samples of each process.
        """
        if not is_fast(fastest_ns) or fastest_ns is None:
            return Turn(1, opener=False)
        wanted = math.ceil(LONG_MS * NANOSECONDS_PER_MS / max(1.0, fastest_ns))
        return Turn(max(1, min(wanted, rounds // LEAST_TURNS)), opener=True)


def is_fast(fastest_ns: float | None) -> bool:
    """Whether a cold start would be seen in it."""
    return fastest_ns is not None and fastest_ns < LONG_MS * NANOSECONDS_PER_MS


@dataclass(frozen=True)
class Taken:
    """Samples of all artefacts at one batch.

    Attributes:
        samples: by artefact; one that failed has none.
        turn: how they were taken.
    """

    samples: dict[str, Samples]
    turn: Turn


def take_turns(
    crew: Crew,
    teams: Teams,
    stage: str,
    *,
    rounds: int | None = None,
    seed: int = 0,
    warm_up: WarmUp | None = None,
    listener: Listener = silent,
) -> Taken:
    """Times artefacts that are ready, in turns.

    Args:
        crew: their processes.
        teams: those to time; one with a process that fails on the way is left out, and the others go on.
        stage: what to call this in failures and to the listener.
        rounds: samples of each artefact after the warm-up, in equal parts of its processes, so it can be a few more;
            None is as many as make sense.
        seed: of the orders.
        warm_up: when a process counts as warm; by default `WarmUp()`. Of something fast a window is as many samples as
            fill `WINDOW_MS`, because clocks take their time; there are at most `most_rounds / window` windows.
        listener: hears how far it is.

    Raises:
        ConfigError: there is less than one round.
    """
    if rounds is not None and rounds < 1:
        raise ConfigError(f"Nothing to measure: expected one round or more, got {rounds}.")
    turns = _Turns(crew, teams, stage, np.random.default_rng(seed))
    warm = _warmed_up(turns, warm_up or WarmUp())
    medians = [float(np.median(one.samples_ns)) for one in warm.values() if one.samples_ns]
    fastest_ns = min(medians, default=None)
    each = _rounds_of_each(teams, rounds, fastest_ns)
    timed = _timed(turns, each, Turn.of(fastest_ns, each), listener)
    samples = {
        artefact: _together([(warm[name], timed[name]) for name in teams[artefact]]) for artefact in turns.present
    }
    for artefact, taken_samples in samples.items():
        if not taken_samples.settled:
            listener(Note(f"{artefact}, {stage}: the warm-up ended before times were steady. The machine is busy."))
    return Taken(samples, Turn.of(fastest_ns, each))


def _rounds_of_each(teams: Teams, rounds: int | None, fastest_ns: float | None) -> int:
    """Samples of each process."""
    if rounds is None and is_fast(fastest_ns):
        return DEFAULT_SAMPLES
    return -(-(rounds or DEFAULT_SAMPLES) // max(map(len, teams.values()), default=1))


@dataclass
class _Timed:
    """What one process took."""

    samples_ns: list[int] = field(default_factory=list)
    turn_starts_ns: list[int] = field(default_factory=list)


def _timed(turns: _Turns, each: int, turn: Turn, listener: Listener) -> dict[str, _Timed]:
    """So many samples of each process, in turns."""
    timed = {name: _Timed() for name in turns.names}
    for done in range(0, each, turn.samples):
        listener(Advance(turns.stage, done, each))
        for name, taken in turns.take(dict.fromkeys(timed, min(turn.samples, each - done) + turn.opener)):
            timed[name].turn_starts_ns += taken[: int(turn.opener)]
            timed[name].samples_ns += taken[int(turn.opener) :]
    listener(Advance(turns.stage, each, each))
    return timed


def _together(processes: Sequence[tuple[_Warming, _Timed]]) -> Samples:
    """Samples of one artefact."""
    shares = [
        Share(len(timed.samples_ns), len(warm.samples_ns), len(timed.turn_starts_ns), warm.steady)
        for warm, timed in processes
    ]
    return Samples(
        latency_ns=tuple(value for _, timed in processes for value in timed.samples_ns),
        warm_up_ns=tuple(value for warm, _ in processes for value in warm.samples_ns),
        settled=all(share.settled for share in shares),
        turn_starts_ns=tuple(value for _, timed in processes for value in timed.turn_starts_ns),
        shares=tuple(shares),
    )


@dataclass(frozen=True)
class _Turns:
    crew: Crew
    teams: Teams
    stage: str
    random: np.random.Generator

    @property
    def names(self) -> list[str]:
        """Of all processes."""
        return [name for team in self.teams.values() for name in team]

    @property
    def present(self) -> list[str]:
        """Artefacts of which no process has failed, in the order in which they were named."""
        alive = set(self.crew.names)
        return [artefact for artefact, team in self.teams.items() if alive.issuperset(team)]

    def take(self, times: Mapping[str, int]) -> Iterator[tuple[str, list[int]]]:
        """Lets each process run so many times, in an order of its own."""
        present = [name for artefact in self.present for name in self.teams[artefact]]
        for position in self.random.permutation(len(present)):
            name = present[position]
            answer = self.crew.ask(name, self.stage, {"do": "run", "times": times[name]})
            if answer is not None:
                yield name, answer["ns"]


@dataclass
class _Warming:
    """One process on its way to be warm."""

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
        if all(warming[name].steady for artefact in turns.present for name in turns.teams[artefact]):
            break
    return warming
