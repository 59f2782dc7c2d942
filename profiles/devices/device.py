"""What a data sheet says of a device, as values.

Operations per second are dense ones: figures for sparse weights, which vendors like to print, are twice as high and say
nothing about networks that are not sparse.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated

from msgspec import Meta

from mimi_edge.errors import ConfigError

PRECISIONS = ("fp32", "tf32", "fp16", "bf16", "int8")
ELEMENT_BYTES: Mapping[str, int] = {"fp32": 4, "tf32": 4, "fp16": 2, "bf16": 2, "int8": 1}
"""What one number takes in memory."""
KINDS = ("jetson", "gpu", "cpu")
NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
COMPUTE_CAPABILITY = re.compile(r"\d+\.\d+")
Text = Annotated[str, Meta(pattern=r"\S", description="a text")]
"""Of a profile; figures such as versions must be quoted there, because YAML makes 8.10 the number 8.1."""


@dataclass(frozen=True)
class LaunchOverhead:
    """What starting one kernel is taken to cost. No data sheet has it.

    Attributes:
        seconds: for one kernel.
        assumption: what the figure stands on.
    """

    seconds: float
    assumption: str


@dataclass(frozen=True)
class PowerMode:
    """One of the modes a device can be put into.

    Attributes:
        name: as the vendor's tool has it, `nvpmodel` for a Jetson.
        watts: its budget, None for a mode without one.
        memory_bytes_per_s: where the mode changes it, else None.
        operations_per_s: by precision, where the mode changes them and the vendor says to what.
    """

    name: str
    watts: float | None = None
    memory_bytes_per_s: float | None = None
    operations_per_s: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class JetPack:
    """A release of the software for Jetsons and what it brings; None where it is not known."""

    version: Text
    l4t: Text | None = None
    cuda: Text | None = None
    tensorrt: Text | None = None


@dataclass(frozen=True)
class Source:
    """Where figures were taken from."""

    title: Text
    publisher: Text
    address: Text | None = None


@dataclass(frozen=True)
class Device:
    """What is known of a device. A figure without a source is left out, and is None or missing.

    Attributes:
        name: what the command line calls it, such as `jetson-orin-nano-8gb`.
        title: what people call it.
        kind: `jetson`, `gpu` or `cpu`.
        memory_bytes: of the device; for unified memory, of everything.
        unified_memory: whether CPU and GPU share it, so that it must be counted once.
        memory_bytes_per_s: peak bandwidth.
        operations_per_s: peak, dense, by precision.
        compute_capability: of CUDA, such as `8.7`.
        launch_overhead: an assumption.
        board_watts: the board's power limit as sold.
        power_modes: for Jetsons. The figures above are those of no super mode.
        jetpacks: releases that run on it.
        sources: of the figures.
        notes: what to know when using the figures.
    """

    name: str
    title: str
    kind: str
    memory_bytes: int | None = None
    unified_memory: bool = False
    memory_bytes_per_s: float | None = None
    operations_per_s: Mapping[str, float] = field(default_factory=dict)
    architecture: str | None = None
    compute_capability: str | None = None
    launch_overhead: LaunchOverhead | None = None
    board_watts: float | None = None
    power_modes: tuple[PowerMode, ...] = ()
    jetpacks: tuple[JetPack, ...] = ()
    sources: tuple[Source, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if faults := list(_faults(self)):
            raise ConfigError(f"The profile of {self.name!r} cannot be: " + "; ".join(faults) + ". Correct them.")

    def in_mode(self, name: str) -> Device:
        """The device as it is in one of its power modes.

        Raises:
            ConfigError: it has no such mode.
        """
        for mode in self.power_modes:
            if mode.name == name:
                return replace(
                    self,
                    title=f"{self.title}, mode {name}",
                    memory_bytes_per_s=mode.memory_bytes_per_s or self.memory_bytes_per_s,
                    operations_per_s={**self.operations_per_s, **mode.operations_per_s},
                )
        known = ", ".join(mode.name for mode in self.power_modes) or "none"
        raise ConfigError(f"{self.title} has the power modes {known}; got {name!r}. Choose one of them.")


def _faults(device: Device) -> Iterator[str]:
    if not NAME.fullmatch(device.name):
        yield f"the name {device.name!r} must be small letters, digits and single hyphens"
    if device.kind not in KINDS:
        yield f"kind must be one of {', '.join(KINDS)}, got {device.kind!r}"
    if unknown := set(device.operations_per_s) - set(PRECISIONS):
        yield f"unknown precisions {', '.join(sorted(unknown))}; known are {', '.join(PRECISIONS)}"
    if device.compute_capability is not None and not COMPUTE_CAPABILITY.fullmatch(device.compute_capability):
        yield f"compute capability must look like '8.7', got {device.compute_capability!r}"
    numbers = [device.memory_bytes, device.memory_bytes_per_s, device.board_watts, *device.operations_per_s.values()]
    if any(number is not None and number <= 0 for number in numbers):
        yield "sizes, speeds and watts must be positive"
    names = [mode.name for mode in device.power_modes]
    if len(set(names)) < len(names):
        yield f"two power modes have one name ({', '.join(names)})"
