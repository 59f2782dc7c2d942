"""How artefacts are measured: sizes of batches, samples, processes, and what is measured beside the time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mimi_edge.errors import ConfigError
from mimi_edge.profiles.latency import WarmUp
from mimi_edge.profiles.processes import COMMAND, PATIENCE_S
from mimi_edge.profiles.runtimes.artefact import Artefact
from mimi_edge.profiles.teams import DEFAULT_PROCESSES

if TYPE_CHECKING:
    from mimi_edge.profiles.devices.device import Device


@dataclass(frozen=True)
class Plan:
    """How to measure.

    Attributes:
        batches: images at a time, one interleaved run for each.
        rounds: samples of each artefact and batch, shared by its processes; None for as many as make sense.
        seed: of images and of the order of measurement.
        warm_up: when artefacts count as warm.
        power: whether joules are measured, too.
        device: whose data sheet is set beside the measurements, None for none.
        processes: of each artefact, fewer where memory is short. Several tell how much one differs from the next.
        patience_s: seconds of silence after which a process is given up.
        command: starts the process of an artefact; tests and benchmarks have others.
    """

    batches: tuple[int, ...] = (1,)
    rounds: int | None = None
    seed: int = 0
    warm_up: WarmUp = field(default_factory=WarmUp)
    power: bool = False
    device: Device | None = None
    processes: int = DEFAULT_PROCESSES
    patience_s: float = PATIENCE_S
    command: Callable[[Artefact], Sequence[str]] = lambda _: COMMAND

    def __post_init__(self) -> None:
        """Refuses numbers without a meaning.

        Raises:
            ConfigError: batches, rounds or processes below 1, or a batch that comes twice.
        """
        faults = []
        if not self.batches or min(self.batches) < 1 or len(set(self.batches)) < len(self.batches):
            got = ",".join(map(str, self.batches)) or "none"
            faults.append(f"Batches must be at least 1, and each comes once; got {got}.")
        faults += [
            f"{name} must be at least 1; got {number}."
            for name, number in (("Rounds", self.rounds), ("Processes", self.processes))
            if number is not None and number < 1
        ]
        if faults:
            raise ConfigError("\n".join(faults))

    @property
    def useful_processes(self) -> int:
        """No more than there are samples for."""
        return self.processes if self.rounds is None else min(self.processes, self.rounds)
