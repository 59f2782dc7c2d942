"""Joules of one artefact that runs alone, over and over, with what the machine takes at rest subtracted."""

from __future__ import annotations

from dataclasses import dataclass

from mimi_edge.errors import ConfigError, MimiEdgeError
from mimi_edge.profiles.board.find_board import Board
from mimi_edge.profiles.board.power import PowerMeter, idle_watts, sample
from mimi_edge.profiles.processes import Crew
from mimi_edge.profiles.reports import EnergyUse

BUSY_S = 4.0
"""Of running: NVML's power and the service of jetson-stats are refreshed a few times a second only."""
IDLE_S = 3.0


@dataclass(frozen=True)
class PowerPlan:
    """How energy is measured.

    Attributes:
        meter: that is read by the profiler, never by the process that is measured.
        idle_watts: of the machine at rest, artefacts open and waiting.
        busy_s: how long each artefact and batch runs.
    """

    meter: PowerMeter
    idle_watts: float
    busy_s: float = BUSY_S


def power_meter(board: Board) -> PowerMeter:
    """The meter of a board.

    Raises:
        MimiEdgeError: it has none, with the reason.
    """
    if board.meter is None:
        raise MimiEdgeError(f"--power needs a power meter, and {board.name} has none: {board.no_power}")
    return board.meter


def rested(meter: PowerMeter, idle_s: float = IDLE_S) -> PowerPlan:
    """Measures the machine at rest; call it when artefacts are open and nothing runs.

    Raises:
        MimiEdgeError: the meter does not answer.
    """
    return PowerPlan(meter, idle_watts(meter, idle_s))


def energy_of(crew: Crew, name: str, batch: int, plan: PowerPlan) -> EnergyUse | None:
    """Lets an artefact that is ready run for a while and reads the meter meanwhile.

    Returns:
        None where its process failed; the crew then knows why.

    Raises:
        MimiEdgeError: the meter does not answer.
    """
    with sample(plan.meter) as sampler:
        answer = crew.ask(name, f"energy, batch {batch}", {"do": "busy", "seconds": plan.busy_s})
    if answer is None:
        return None
    try:
        used = sampler.samples().energy(answer["start_ns"], answer["end_ns"])
    except ConfigError as error:
        raise MimiEdgeError(f"{plan.meter.description} did not answer while {name} ran: {error}") from error
    return EnergyUse(
        joules=used.joules,
        seconds=used.seconds,
        images=answer["runs"] * batch,
        idle_watts=plan.idle_watts,
        method=used.method,
        samples=used.samples,
        meter=plan.meter.description,
    )
