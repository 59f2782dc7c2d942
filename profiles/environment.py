"""Where a measurement was taken: what two reports must have in common before they are compared."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    "mimi-edge",
    "numpy",
    "onnx",
    "onnx-ir",
    "onnxruntime",
    "onnxruntime-gpu",
    "Pillow",
    "safetensors",
    "tensorrt",
    "timm",
    "torch",
)
CPU_INFO = Path("/proc/cpuinfo")
BOARD_NAME = Path("/proc/device-tree/model")


@dataclass(frozen=True)
class Environment:
    """The machine and the software of a measurement.

    Attributes:
        cpu: model name.
        cores: that this process may use.
        threads: that the runtime was told to use, None where it chose.
        system: operating system and its kernel's release.
        machine: instruction set, such as `x86_64` or `aarch64`.
        python: version.
        packages: versions of what is installed, by name.
        providers: the runtime's execution providers, in order of preference.
        load_average: runnable processes over the last minute when the measurement began, None where unknown. Above 0.5
            or so something else was running too.
        git_revision: of the checkout that the working directory is in, with `+` where files differ from it; None where
            it is in none.
        gpu: what its driver tells, None without one.
        board: kind, name, power mode, temperatures and so on.
        marks: sentences on what makes the measurement doubtful; empty where nothing does.
    """

    cpu: str
    cores: int
    threads: int | None
    system: str
    machine: str
    python: str
    packages: Mapping[str, str]
    providers: tuple[str, ...]
    load_average: float | None
    git_revision: str | None = None
    gpu: Mapping[str, Any] | None = None
    board: Mapping[str, Any] | None = None
    marks: tuple[str, ...] = ()


def current_environment(*, threads: int | None = None, providers: Sequence[str] = ()) -> Environment:
    """Describes this machine now.

    Args:
        threads: that the runtime under measurement was told to use.
        providers: that it runs on.
    """
    return Environment(
        cpu=cpu_model(),
        cores=usable_cores(),
        threads=threads,
        system=f"{platform.system()} {platform.release()}",
        machine=platform.machine(),
        python=platform.python_version(),
        packages=installed_versions(PACKAGES),
        providers=tuple(providers),
        load_average=_load_average(),
    )


def cpu_model() -> str:
    """The processor's name; on boards whose processor does not tell it, the board's."""
    for line in _text(CPU_INFO).splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name" and value.strip():
            return value.strip()
    return _text(BOARD_NAME).strip("\0 \n") or platform.processor() or platform.machine()


def usable_cores() -> int:
    """Cores that this process may use, which can be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def installed_versions(names: Sequence[str]) -> dict[str, str]:
    """Versions by name of those of the packages that are installed."""
    versions = {name: _installed_version(name) for name in names}
    return {name: found for name, found in versions.items() if found is not None}


def _installed_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _load_average() -> float | None:
    try:
        return round(os.getloadavg()[0], 2)
    except (AttributeError, OSError):
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
