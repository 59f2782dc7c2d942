"""The processor: what it is called, and how many of its cores may be used."""

from __future__ import annotations

import os
import platform
from pathlib import Path

CPU_INFO = Path("/proc/cpuinfo")
BOARD_NAME = Path("/proc/device-tree/model")


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


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
