"""Which board this is, what it tells, and how its power is read: one entry for all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mimi_edge.errors import MimiEdgeError
from mimi_edge.kernel_files import ROOT, text_of
from mimi_edge.profiles.board import jetson, nvml
from mimi_edge.profiles.board.power import PowerMeter
from mimi_edge.profiles.board.processor import cpu_model
from mimi_edge.profiles.board.rapl import RaplMeter

JETSON, GPU, CPU = "jetson", "gpu", "cpu"


@dataclass(frozen=True)
class BoardState:
    """A board at one moment, alike for all kinds, for the environment of a report.

    Attributes:
        power_mode: of a Jetson; else None.
        temperatures_c: by sensor.
        throttling: what holds it back now, in words.
        warnings: what makes a measurement doubtful, such as another process on the GPU.
        facts: everything else it tells, ready for JSON.
    """

    power_mode: str | None = None
    temperatures_c: Mapping[str, float] = field(default_factory=dict)
    throttling: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Board:
    """The machine that measurements are taken on.

    Attributes:
        kind: `jetson`, `gpu` or `cpu`.
        name: of the board, the GPU or the processor's machine.
        unified_memory: CPU and GPU share one memory: what the GPU takes is in the machine's figure already.
        meter: of its power, None where there is none.
        no_power: why there is no meter.
        read_state: asks for its state now; takes milliseconds, so never between timed runs.
    """

    kind: str
    name: str
    unified_memory: bool
    meter: PowerMeter | None
    no_power: str | None
    read_state: Callable[[], BoardState]

    @property
    def power_source(self) -> str:
        """What power figures are of, or why there are none."""
        return self.meter.description if self.meter is not None else f"no power: {self.no_power}"


def find_board(root: Path = ROOT, gpu: int | str | None = None) -> Board:
    """Finds out what this machine is; never fails.

    A Jetson goes before a GPU, a GPU before the CPU.

    Args:
        root: of the file system, for tests.
        gpu: index in the order of the bus, or UUID.
    """
    if jetson.is_jetson(root):
        return _jetson(root)
    try:
        return _gpu(nvml.open_gpu(gpu))
    except MimiEdgeError as error:
        return _cpu(root, str(error))


def throttled_between(before: BoardState, after: BoardState) -> tuple[str, ...]:
    """In words, what held the board back at either moment, or was counted in between."""
    words = [*before.throttling, *after.throttling]
    earlier, later = before.facts.get("power_events", {}), after.facts.get("power_events", {})
    more = {kind: count - earlier.get(kind, 0) for kind, count in later.items()}
    words += [f"{count} {kind} events" for kind, count in more.items() if count > 0]
    return tuple(dict.fromkeys(words))


def _jetson(root: Path) -> Board:
    def state() -> BoardState:
        read = jetson.jetson_state(root)
        document = asdict(read)
        held = {key: document.pop(key) for key in ("power_mode", "temperatures_c", "throttling")}
        return BoardState(
            power_mode=read.power_mode,
            temperatures_c=held["temperatures_c"],
            throttling=tuple(f"{name} (state {level})" for name, level in read.throttling.active.items()),
            warnings=_jetson_warnings(read),
            facts=document | {"power_events": held["throttling"]["events"]},
        )

    meter, reason = _meter(lambda: jetson.jetson_meter(root))
    return Board(JETSON, text_of(root / jetson.MODEL) or "Jetson", True, meter, reason, state)


def _jetson_warnings(state: jetson.JetsonState) -> tuple[str, ...]:
    if state.clocks_fixed is False:
        return ("Clocks move with the load; jetson_clocks fixes them, and then timings repeat.",)
    return ()


def _gpu(opened: nvml.Gpu) -> Board:
    def state() -> BoardState:
        read = nvml.gpu_state(opened)
        return BoardState(
            temperatures_c={} if read.temperature_c is None else {"gpu": read.temperature_c},
            throttling=read.throttling,
            warnings=() if read.warning is None else (read.warning,),
            facts=asdict(read),
        )

    meter, reason = _meter(lambda: nvml.NvmlMeter(opened))
    return Board(GPU, nvml.gpu_state(opened).name or "NVIDIA GPU", False, meter, reason, state)


def _cpu(root: Path, why_no_gpu: str) -> Board:
    meter, reason = _meter(lambda: RaplMeter(root))

    def state() -> BoardState:
        # A Jetson's names for zones and cooling devices are the kernel's own.
        active = jetson.throttling(root).active
        return BoardState(
            temperatures_c=jetson.temperatures_c(root),
            throttling=tuple(f"{name} (state {level})" for name, level in active.items()),
            facts={"no_gpu": why_no_gpu},
        )

    return Board(CPU, cpu_model(), True, meter, reason, state)


def _meter(make: Callable[[], PowerMeter]) -> tuple[PowerMeter | None, str | None]:
    try:
        return make(), None
    except MimiEdgeError as error:
        return None, str(error)
