"""What NVIDIA's driver tells of a GPU, through `nvidia-ml-py` (the module `pynvml`).

Every field is asked for by itself: a board without a sensor, a driver that is too old or a missing permission cost that
field, which is then None with the reason beside it, and never the measurement.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, TypeVar

from mimi_edge.errors import MimiEdgeError
from mimi_edge.parts import REPORT, install_line
from mimi_edge.profiles.board.power import PowerReading

T = TypeVar("T")
MW_PER_W = 1000.0
MJ_PER_J = 1000.0

REASONS: Mapping[str, str] = {
    "GpuIdle": "idle",
    "ApplicationsClocksSetting": "application clocks are set",
    "SwPowerCap": "power limit",
    "HwSlowdown": "hardware slowdown",
    "SyncBoost": "sync boost group",
    "SwThermalSlowdown": "temperature, by the driver",
    "HwThermalSlowdown": "temperature, by the hardware",
    "HwPowerBrakeSlowdown": "external power brake",
    "DisplayClockSetting": "display clocks",
}
"""Words for the bits of NVML, by the end of their constants' names."""
HARMLESS = frozenset({"idle", "application clocks are set", "display clocks"})
"""Reasons for lower clocks that are no throttling."""


@dataclass(frozen=True)
class GpuProcess:
    """Another process that uses the GPU; memory is None where the driver does not tell it."""

    pid: int
    memory_bytes: int | None


@dataclass(frozen=True)
class GpuState:
    """A GPU at one moment. A field that could not be had is None, with the reason in `reasons`.

    Attributes:
        name: of the product.
        uuid: of this very board.
        driver: version.
        compute_capability: such as `8.9`.
        clocks_mhz: by domain, `graphics` and `memory`.
        most_clocks_mhz: what they could be.
        application_clocks_mhz: what they are set to, where somebody set them.
        power_watts: at this instant, else the mean of the last second.
        power_average_watts: mean of the last second.
        power_limit_watts: that the board keeps to.
        throttle_reasons: in words; empty where nothing holds the clocks down.
        temperature_c: of the chip.
        memory_total_bytes: of the board.
        memory_used_bytes: by everybody.
        persistence: whether the driver stays loaded between programs.
        mig: whether the GPU is partitioned.
        others: processes on the GPU that are not ours.
        reasons: why a field is None, by its name.
    """

    name: str | None = None
    uuid: str | None = None
    driver: str | None = None
    compute_capability: str | None = None
    clocks_mhz: Mapping[str, int] | None = None
    most_clocks_mhz: Mapping[str, int] | None = None
    application_clocks_mhz: Mapping[str, int] | None = None
    power_watts: float | None = None
    power_average_watts: float | None = None
    power_limit_watts: float | None = None
    throttle_reasons: tuple[str, ...] | None = None
    temperature_c: float | None = None
    memory_total_bytes: int | None = None
    memory_used_bytes: int | None = None
    persistence: bool | None = None
    mig: bool | None = None
    others: tuple[GpuProcess, ...] | None = None
    reasons: Mapping[str, str] = field(default_factory=dict)

    @property
    def throttling(self) -> tuple[str, ...]:
        """The reasons that slow work down."""
        return tuple(reason for reason in self.throttle_reasons or () if reason not in HARMLESS)

    @property
    def warning(self) -> str | None:
        """That the measurement is not alone, None where it is or nobody knows."""
        if not self.others:
            return None
        listed = ", ".join(f"process {other.pid} ({_megabytes(other.memory_bytes)})" for other in self.others)
        return f"The GPU is shared with {listed}. Timings and power are not of this work alone."


@dataclass(frozen=True)
class Gpu:
    """An open connection to one GPU.

    Attributes:
        nvml: the module.
        handle: of the GPU.
    """

    nvml: Any
    handle: Any


def open_gpu(which: int | str | None = None) -> Gpu:
    """Connects to a GPU of this machine.

    Args:
        which: index in the order of the bus, or UUID; by default the first of `CUDA_VISIBLE_DEVICES`, else index 0.
            CUDA's own indices are another order unless CUDA_DEVICE_ORDER=PCI_BUS_ID is set.

    Raises:
        MimiEdgeError: there is no NVML, no driver or no such GPU; the message says which.
    """
    try:
        nvml = import_module("pynvml")
    except ImportError as error:
        raise MimiEdgeError(f"nvidia-ml-py is not installed ({error}): {install_line(REPORT)}") from error
    wanted = _visible() if which is None else which
    try:
        nvml.nvmlInit()
        if isinstance(wanted, int):
            return Gpu(nvml, nvml.nvmlDeviceGetHandleByIndex(wanted))
        return Gpu(nvml, nvml.nvmlDeviceGetHandleByUUID(wanted))
    except nvml.NVMLError as error:
        raise MimiEdgeError(f"NVIDIA's driver does not tell of GPU {wanted}: {error}. Try nvidia-smi.") from error


def _visible() -> int | str:
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip()
    if first.isdigit():
        return int(first)
    return first if first.startswith(("GPU-", "MIG-")) else 0


def gpu_state(gpu: Gpu, own_pids: Collection[int] | None = None) -> GpuState:
    """Asks for everything.

    Args:
        gpu: to ask.
        own_pids: processes that are part of the measurement; this one by default. In a container the driver may tell
            the host's numbers, and then even this process looks like another.
    """
    asked = _Asked(gpu)
    own = {os.getpid()} if own_pids is None else set(own_pids)
    nvml, handle, ask = gpu.nvml, gpu.handle, asked.ask
    average = ask("power_average_watts", lambda: _field_watts(gpu, nvml.NVML_FI_DEV_POWER_AVERAGE))
    memory = ask("memory_total_bytes", lambda: nvml.nvmlDeviceGetMemoryInfo(handle))
    return GpuState(
        name=ask("name", lambda: _text(nvml.nvmlDeviceGetName(handle))),
        uuid=ask("uuid", lambda: _text(nvml.nvmlDeviceGetUUID(handle))),
        driver=ask("driver", lambda: _text(nvml.nvmlSystemGetDriverVersion())),
        compute_capability=ask("compute_capability", lambda: _joined(nvml.nvmlDeviceGetCudaComputeCapability(handle))),
        clocks_mhz=ask("clocks_mhz", lambda: _clocks(gpu, nvml.nvmlDeviceGetClockInfo)),
        most_clocks_mhz=ask("most_clocks_mhz", lambda: _clocks(gpu, nvml.nvmlDeviceGetMaxClockInfo)),
        application_clocks_mhz=ask("application_clocks_mhz", lambda: _clocks(gpu, nvml.nvmlDeviceGetApplicationsClock)),
        power_watts=ask("power_watts", lambda: _watts(gpu)),
        power_average_watts=average,
        power_limit_watts=ask("power_limit_watts", lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle) / MW_PER_W),
        throttle_reasons=ask("throttle_reasons", lambda: throttle_words(nvml, _reason_bits(gpu))),
        temperature_c=ask(
            "temperature_c", lambda: float(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))
        ),
        memory_total_bytes=None if memory is None else int(memory.total),
        memory_used_bytes=None if memory is None else int(memory.used),
        persistence=ask("persistence", lambda: bool(nvml.nvmlDeviceGetPersistenceMode(handle))),
        mig=ask("mig", lambda: bool(nvml.nvmlDeviceGetMigMode(handle)[0])),
        others=ask("others", lambda: _others(gpu, own)),
        reasons=asked.reasons,
    )


@dataclass
class _Asked:
    """Asks one thing after the other and notes why some were not answered."""

    gpu: Gpu
    reasons: dict[str, str] = field(default_factory=dict)

    def ask(self, name: str, question: Callable[[], T]) -> T | None:
        """The answer, or None with the reason noted."""
        try:
            return question()
        except self.gpu.nvml.NVMLError as error:
            self.reasons[name] = str(error)
        except AttributeError as error:
            self.reasons[name] = f"this nvidia-ml-py does not know it ({error})"
        return None


def throttle_words(nvml: Any, bits: int) -> tuple[str, ...]:
    """What the bits of NVML's clock event reasons say; bits without a word are given as a number."""
    words, rest = [], bits
    for ending, word in REASONS.items():
        bit = _constant(nvml, ending)
        if bits & bit:
            words.append(word)
        rest &= ~bit
    return (*words, f"unknown (0x{rest:x})") if rest else tuple(words)


def _constant(nvml: Any, ending: str) -> int:
    """Newer versions call the reasons events, older ones throttling."""
    for beginning in ("nvmlClocksEventReason", "nvmlClocksThrottleReason"):
        if (value := getattr(nvml, beginning + ending, None)) is not None:
            return int(value)
    return 0


def _reason_bits(gpu: Gpu) -> int:
    events = getattr(gpu.nvml, "nvmlDeviceGetCurrentClocksEventReasons", None)
    try:
        if events is not None:
            return int(events(gpu.handle))
    except gpu.nvml.NVMLError:
        pass  # a driver older than the module knows only the older name
    return int(gpu.nvml.nvmlDeviceGetCurrentClocksThrottleReasons(gpu.handle))


def _clocks(gpu: Gpu, question: Callable[[Any, int], int]) -> dict[str, int]:
    domains = {"graphics": gpu.nvml.NVML_CLOCK_GRAPHICS, "memory": gpu.nvml.NVML_CLOCK_MEM}
    return {name: int(question(gpu.handle, domain)) for name, domain in domains.items()}


def _watts(gpu: Gpu) -> float:
    """Of this instant where the driver tells it; the older figure is a mean over a second on newer boards."""
    try:
        return _field_watts(gpu, gpu.nvml.NVML_FI_DEV_POWER_INSTANT)
    except (gpu.nvml.NVMLError, AttributeError):
        return float(gpu.nvml.nvmlDeviceGetPowerUsage(gpu.handle)) / MW_PER_W


def _field_watts(gpu: Gpu, which: int) -> float:
    value = gpu.nvml.nvmlDeviceGetFieldValues(gpu.handle, [which])[0]
    if value.nvmlReturn != gpu.nvml.NVML_SUCCESS:
        raise gpu.nvml.NVMLError(value.nvmlReturn)
    return float(value.value.uiVal) / MW_PER_W


def _others(gpu: Gpu, own: set[int]) -> tuple[GpuProcess, ...]:
    """Of compute and graphics; one process can be in both lists."""
    found: dict[int, int | None] = {}
    for question in (gpu.nvml.nvmlDeviceGetComputeRunningProcesses, gpu.nvml.nvmlDeviceGetGraphicsRunningProcesses):
        for process in question(gpu.handle):
            found[int(process.pid)] = process.usedGpuMemory
    return tuple(GpuProcess(pid, used) for pid, used in sorted(found.items()) if pid not in own)


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _joined(numbers: Collection[int]) -> str:
    return ".".join(map(str, numbers))


def _megabytes(size_bytes: int | None) -> str:
    return "memory not known" if size_bytes is None else f"{size_bytes / 1e6:,.0f} MB"


class NvmlMeter:
    """The power of one GPU board, with its energy counter where it has one (Volta and later).

    Args:
        gpu: to ask.

    Raises:
        MimiEdgeError: this GPU tells no power.
    """

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu
        self._has_counter = True
        self._counter()
        try:
            _watts(gpu)
        except gpu.nvml.NVMLError as error:
            raise MimiEdgeError(f"This GPU does not tell its power: {error}.") from error

    @property
    def description(self) -> str:
        """What is read and what it covers."""
        how = "energy counter and power" if self._has_counter else "power"
        return f"GPU board, {how} from NVML (without CPU and machine)"

    def read(self) -> PowerReading:
        """Asks now.

        Raises:
            OSError: the driver did not answer.
        """
        try:
            watts = _watts(self._gpu)
        except self._gpu.nvml.NVMLError as error:
            raise OSError(str(error)) from error
        return PowerReading(watts, {"GPU": watts}, time.perf_counter_ns(), self._counter())

    def _counter(self) -> float | None:
        """Joules since the driver was loaded; once it failed it is not asked again."""
        if not self._has_counter:
            return None
        try:
            return float(self._gpu.nvml.nvmlDeviceGetTotalEnergyConsumption(self._gpu.handle)) / MJ_PER_J
        except (self._gpu.nvml.NVMLError, AttributeError):
            self._has_counter = False
            return None
