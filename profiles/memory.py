"""How much memory this process takes, and has taken at most: on the host from the kernel, on a GPU from its driver."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mimi_edge.errors import MimiEdgeError
from mimi_edge.kernel_files import ROOT

PROCESS = Path("/proc/self")
KB = 1024
FORGET_PEAK = "5"
"""What Linux is told to begin the peak of resident memory anew."""

DeviceMeter = Callable[[], int | None]
"""Bytes of device memory in use now, None where nobody tells."""


@dataclass(frozen=True)
class HostMemory:
    """Resident memory of this process, the pages of mapped files included.

    Attributes:
        resident_bytes: now.
        peak_bytes: at most so far.
    """

    resident_bytes: int
    peak_bytes: int


def host_memory(process: Path = PROCESS) -> HostMemory:
    """Asks the kernel.

    `VmHWM`, not `getrusage`: the latter begins with what the parent had taken.
    """
    sizes = {}
    for line in _text(process / "status").splitlines():
        name, _, value = line.partition(":")
        if name in {"VmRSS", "VmHWM"}:
            sizes[name] = int(value.split()[0]) * KB
    if len(sizes) == 2:
        return HostMemory(sizes["VmRSS"], sizes["VmHWM"])
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KB
    return HostMemory(peak, peak)


def forget_peak(process: Path = PROCESS) -> None:
    """Lets the peak of resident memory begin anew at what is resident now, where the kernel allows it."""
    try:
        (process / "clear_refs").write_text(FORGET_PEAK)
    except OSError:
        return


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


@dataclass
class DeviceMemory:
    """What this process takes of a GPU's memory: the driver's figure for it, else what changed while it alone worked.

    The second way needs that nobody else uses the GPU between `begin` and `end`.

    Attributes:
        own: bytes of this process, None where the driver does not tell.
        used: bytes of everybody.
    """

    own: DeviceMeter
    used: DeviceMeter
    _sum_bytes: int | None = None
    _before_bytes: int | None = field(default=None, repr=False)
    _peak_bytes: int | None = None

    def begin(self) -> None:
        """This process begins to work."""
        self._before_bytes = self.used() if self.own() is None else None

    def end(self) -> int | None:
        """It has ended; gives what it takes now, None where nobody tells."""
        taken = self.own()
        if taken is None and self._before_bytes is not None and (now := self.used()) is not None:
            self._sum_bytes = (self._sum_bytes or 0) + now - self._before_bytes
            taken = max(0, self._sum_bytes)
        if taken is not None:
            self._peak_bytes = max(taken, self._peak_bytes or 0)
        return taken

    @property
    def peak_bytes(self) -> int | None:
        """The most that was seen at an end."""
        return self._peak_bytes


def together_bytes(host_bytes: int, device_bytes: int, *, unified: bool) -> int:
    """What a process takes altogether; where CPU and GPU share one memory, the larger figure holds the other."""
    return max(host_bytes, device_bytes) if unified else host_bytes + device_bytes


def device_memory(root: Path = ROOT) -> DeviceMemory:
    """Of the first GPU; tells nothing where there is no driver or no `nvidia-ml-py`.

    On a Jetson, whose driver tells no sizes and whose GPU's memory is in no process's resident size, it is what the
    whole machine has in use.

    Args:
        root: of the file system, for tests.
    """
    from mimi_edge.profiles.board import jetson
    from mimi_edge.profiles.board.nvml import open_gpu

    if jetson.is_jetson(root):
        return DeviceMemory(_unknown, lambda: _machine_used_bytes(root))
    try:
        gpu = open_gpu()
    except MimiEdgeError:
        return DeviceMemory(_unknown, _unknown)
    return DeviceMemory(lambda: _own_bytes(gpu.nvml, gpu.handle), lambda: _used_bytes(gpu.nvml, gpu.handle))


def _unknown() -> int | None:
    return None


def _machine_used_bytes(root: Path) -> int | None:
    from mimi_edge.profiles.board import jetson

    found = jetson.memory(root)
    if found.total_bytes is None or found.available_bytes is None:
        return None
    return found.total_bytes - found.available_bytes


def _own_bytes(nvml: Any, handle: Any) -> int | None:
    """None before the process has a context, in a container that numbers processes anew, and on a Jetson."""
    try:
        processes = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
    except (nvml.NVMLError, AttributeError):
        return None
    found = [one.usedGpuMemory for one in processes if int(one.pid) == os.getpid()]
    return int(found[0]) if found and found[0] is not None else None


def _used_bytes(nvml: Any, handle: Any) -> int | None:
    try:
        return int(nvml.nvmlDeviceGetMemoryInfo(handle).used)
    except (nvml.NVMLError, AttributeError):
        return None
