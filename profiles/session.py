"""One session of the profiler: processes that stand ready, and what has been measured of their artefacts so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mimi_edge.events import Advance, Listener
from mimi_edge.profiles.accuracy import answered_classes, measured_accuracy
from mimi_edge.profiles.energy import PowerPlan, energy_of
from mimi_edge.profiles.latency import Samples
from mimi_edge.profiles.processes import Crew
from mimi_edge.profiles.ratios import ratio
from mimi_edge.profiles.reports import EnergyUse, Failure, MeasuredAccuracy, MemoryUse, RatioTo
from mimi_edge.profiles.runtimes.artefact import Artefact
from mimi_edge.profiles.teams import Opened
from mimi_edge.profiles.turns import Taken, Turn, take_turns

if TYPE_CHECKING:
    from mimi_edge.images.decode import LabelledImages
    from mimi_edge.profiles.plan import Plan


@dataclass
class Session:
    """What has been measured so far.

    Attributes:
        crew: all processes.
        artefacts: by name.
        plan: how to measure.
        listener: hears how far it is.
        opened: which processes are of which artefact.
        samples: by artefact and batch.
        turns: by batch, how they were taken.
        energy: by artefact and batch.
        memory: by artefact, of its first process.
        accuracy: by artefact.
    """

    crew: Crew
    artefacts: Mapping[str, Artefact]
    plan: Plan
    listener: Listener
    opened: Opened
    samples: dict[tuple[str, int], Samples] = field(default_factory=dict)
    turns: dict[int, Turn] = field(default_factory=dict)
    energy: dict[tuple[str, int], EnergyUse] = field(default_factory=dict)
    memory: dict[str, MemoryUse] = field(default_factory=dict)
    accuracy: dict[str, MeasuredAccuracy] = field(default_factory=dict)

    @property
    def teams(self) -> dict[str, tuple[str, ...]]:
        """Processes of the artefacts of which none has failed."""
        alive = set(self.crew.names)
        return {name: team for name, team in self.opened.teams.items() if alive.issuperset(team)}

    def failure(self, name: str) -> Failure | None:
        """How the first of an artefact's processes failed that did."""
        failed = (self.crew.failures.get(process) for process in self.opened.teams.get(name, (name,)))
        return next(filter(None, failed), None)

    def measure(self, batch: int, power: PowerPlan | None) -> None:
        """Latency of all that go on at one batch, and then their joules."""
        stage = f"latency, batch {batch}"
        for name, team in self.teams.items():
            shape = [3, *self.artefacts[name].input_size]
            for process in team:
                self.crew.ask(process, stage, {"do": "ready", "batch": batch, "shape": shape, "seed": self.plan.seed})
        taken = self._taken(stage)
        self.turns[batch] = taken.turn
        self.samples |= {(name, batch): samples for name, samples in taken.samples.items()}
        if power is not None:
            self._measure_energy(batch, power)

    def _taken(self, stage: str) -> Taken:
        return take_turns(
            self.crew,
            self.teams,
            stage,
            rounds=self.plan.rounds,
            seed=self.plan.seed,
            warm_up=self.plan.warm_up,
            listener=self.listener,
        )

    def _measure_energy(self, batch: int, power: PowerPlan) -> None:
        names, stage = list(self.teams), f"energy, batch {batch}"
        for done, name in enumerate(names):
            self.listener(Advance(stage, done, len(names)))
            used = energy_of(self.crew, name, batch, power)
            if used is not None:
                self.energy[name, batch] = used
        self.listener(Advance(stage, len(names), len(names)))

    def ask_memory(self) -> None:
        """Peaks of the first process of each, before accuracy asks for other batches."""
        for name in self.teams:
            if (answer := self.crew.ask(name, "memory", {"do": "memory"})) is not None:
                self.memory[name] = MemoryUse(**self.opened.floors[name], **answer)

    def classify(self, images: Mapping[str, LabelledImages]) -> None:
        """Accuracy of every artefact whose images are known."""
        for name in self.teams:
            artefact = self.artefacts[name]
            given = images.get(artefact.task or "")
            if given is None or artefact.preprocessing is None:
                continue
            answers = answered_classes(self.crew, name, given, artefact.preprocessing, listener=self.listener)
            if answers is not None:
                self.accuracy[name] = measured_accuracy(given, answers)

    def ratio(self, name: str, batch: int) -> RatioTo | None:
        """To the first artefact that has samples of this batch."""
        reference = next((one for one in self.artefacts if (one, batch) in self.samples), name)
        if reference == name:
            return None
        found = ratio(self.samples[name, batch], self.samples[reference, batch], seed=self.plan.seed)
        return RatioTo(reference, found)
