"""Reads device profiles from YAML, and tells every fault of a file at once."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from mimi_edge.documents import FaultyError, read_bytes, typed, yaml_value
from mimi_edge.errors import ConfigError
from mimi_edge.profiles.devices.device import (
    COMPUTE_CAPABILITY,
    KINDS,
    NAME,
    Device,
    JetPack,
    LaunchOverhead,
    PowerMode,
    Source,
    Text,
)
from mimi_edge.profiles.devices.quantities import Bandwidth, FloatingSpeed, IntegerSpeed, Power, Size, Time
from mimi_edge.texts import fault_list

SCHEMA = 1
LARGEST_BYTES = 64_000


@dataclass(frozen=True)
class _Performance:
    """Operations per second, as a profile has them."""

    fp32: FloatingSpeed | None = None
    tf32: FloatingSpeed | None = None
    fp16: FloatingSpeed | None = None
    bf16: FloatingSpeed | None = None
    int8: IntegerSpeed | None = None

    @property
    def by_precision(self) -> dict[str, float]:
        """Those that are given."""
        given = {one.name: getattr(self, one.name) for one in fields(self)}
        return {precision: float(speed) for precision, speed in given.items() if speed is not None}


@dataclass(frozen=True)
class _LaunchOverhead:
    value: Time
    assumption: Text


@dataclass(frozen=True)
class _PowerMode:
    name: Text
    power: Power | None = None
    memory_bandwidth: Bandwidth | None = None
    performance: _Performance | None = None


@dataclass(frozen=True)
class _Profile:
    """The keys of a file; docs/devices.md describes them."""

    schema: Annotated[int, Meta(ge=SCHEMA, le=SCHEMA, description=str(SCHEMA))]
    name: Annotated[str, Meta(pattern=f"^{NAME.pattern}$", description="small letters, digits and single hyphens")]
    title: Text
    kind: Annotated[str, Meta(pattern=f"^({'|'.join(KINDS)})$", description=f"one of {', '.join(KINDS)}")]
    sources: Annotated[
        tuple[Source, ...],
        Meta(min_length=1, description="at least one: where the figures are from (title, publisher, address)"),
    ]
    architecture: Text | None = None
    compute_capability: (
        Annotated[str, Meta(pattern=f"^{COMPUTE_CAPABILITY.pattern}$", description="'8.7' or the like")] | None
    ) = None
    memory: Size | None = None
    unified_memory: bool = False
    memory_bandwidth: Bandwidth | None = None
    performance: _Performance | None = None
    launch_overhead: _LaunchOverhead | None = None
    board_power: Power | None = None
    power_modes: tuple[_PowerMode, ...] | None = None
    jetpack: tuple[JetPack, ...] | None = None
    notes: tuple[str, ...] = field(default=())


def read_device(path: Path) -> Device:
    """Reads one profile.

    Raises:
        ConfigError: it cannot be read or is no profile; every fault is named.
    """
    device, faults = check_device(path)
    if device is None:
        raise ConfigError(
            f"{path} is no device profile:\n{fault_list(faults)}\nCorrect these; docs/devices.md describes every key."
        )
    return device


def check_device(path: Path) -> tuple[Device | None, list[str]]:
    """The profile in a file, or None and every fault of it."""
    try:
        return _device(typed(yaml_value(read_bytes(path, LARGEST_BYTES)), _Profile)), []
    except OSError as error:
        too_large = "; a profile has a few thousand" if error.errno == errno.EFBIG else ""
        return None, [f"it cannot be read: {error.strerror}{too_large}"]
    except FaultyError as error:
        return None, list(error.faults)
    except ConfigError as error:
        return None, [str(error)]


def _device(profile: _Profile) -> Device:
    return Device(
        name=profile.name,
        title=profile.title,
        kind=profile.kind,
        memory_bytes=None if profile.memory is None else int(profile.memory),
        unified_memory=profile.unified_memory,
        memory_bytes_per_s=_plain(profile.memory_bandwidth),
        operations_per_s=_operations(profile.performance),
        architecture=profile.architecture,
        compute_capability=profile.compute_capability,
        launch_overhead=_launch_overhead(profile.launch_overhead),
        board_watts=_plain(profile.board_power),
        power_modes=tuple(map(_power_mode, profile.power_modes or ())),
        jetpacks=profile.jetpack or (),
        sources=profile.sources,
        notes=profile.notes,
    )


def _plain(figure: float | None) -> float | None:
    """The number alone, which every format of reports can hold."""
    return None if figure is None else float(figure)


def _operations(performance: _Performance | None) -> dict[str, float]:
    return {} if performance is None else performance.by_precision


def _launch_overhead(read: _LaunchOverhead | None) -> LaunchOverhead | None:
    return None if read is None else LaunchOverhead(float(read.value), read.assumption)


def _power_mode(read: _PowerMode) -> PowerMode:
    return PowerMode(read.name, _plain(read.power), _plain(read.memory_bandwidth), _operations(read.performance))
