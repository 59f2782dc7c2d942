"""How far a build is, as one number that only grows, out of phases inside phases.

TensorRT tells of phases with a known number of steps; a phase inside another one is part of the outer one's next step.
Steps take different times, so the number says how much of the work is done, not how much of the time has passed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from mimi_edge.events import Advance, Listener

TOTAL = 100


@dataclass
class Phase:
    """A phase that is going on.

    Attributes:
        parent: name of the phase that it is part of, None for an outermost one.
        steps: how many it has.
        done: how many of them are done.
    """

    parent: str | None
    steps: int
    done: int = 0


@dataclass
class BuildProgress:
    """Listens to a build and passes on how far it is; also where a build can be stopped.

    It never raises, because TensorRT calls it from C++: what a listener raised is in `raised` afterwards.

    Attributes:
        stage: name of the one stage that listeners hear of.
        listener: hears it.
        should_stop: whether somebody asked to stop.
        raised: what the listener raised; the build was stopped then.
        stopped: whether the build was asked to stop.
    """

    stage: str
    listener: Listener
    should_stop: Callable[[], bool]
    raised: BaseException | None = None
    stopped: bool = False
    _phases: dict[str, Phase] = field(default_factory=dict)
    _told: int = -1

    def begin(self) -> None:
        """Says that the build starts."""
        self._tell(0, "starting")

    def end(self) -> None:
        """Says that the build is done."""
        self._tell(TOTAL, None)

    def ask_to_stop(self) -> None:
        """Makes the build stop after its present step."""
        self.stopped = True

    def phase_start(self, name: str, parent: str | None, steps: int) -> None:
        """A phase begins."""
        self._phases[name] = Phase(parent if parent in self._phases else None, max(1, int(steps)))

    def step_complete(self, name: str, step: int) -> bool:
        """A step of a phase is done; False stops the build."""
        try:
            if phase := self._phases.get(name):
                phase.done = min(phase.steps, max(phase.done, int(step) + 1))
                self._tell(int(TOTAL * self._share()), name)
            self.stopped = self.stopped or self.should_stop()
        except BaseException as error:  # noqa: BLE001  C++ has no use for it, so it is raised after the build
            self.raised, self.stopped = self.raised or error, True
        return not self.stopped

    def phase_finish(self, name: str) -> None:
        """A phase ended."""
        self._phases.pop(name, None)

    def _share(self) -> float:
        """What is done of the outermost phase that has come furthest."""
        return max((self._share_of(name) for name, phase in self._phases.items() if phase.parent is None), default=0.0)

    def _share_of(self, name: str) -> float:
        phase = self._phases[name]
        inside = [
            self._share_of(other) for other, inner in self._phases.items() if inner.parent == name and other != name
        ]
        return min(1.0, (phase.done + min(1.0, max(inside, default=0.0))) / phase.steps)

    def _tell(self, done: int, phase: str | None) -> None:
        """Only forwards, and 100 only at the end."""
        done = done if phase is None else min(done, TOTAL - 1)
        if done > self._told:
            self._told = done
            self.listener(Advance(self.stage, done, TOTAL, {} if phase is None else {"phase": phase}))
