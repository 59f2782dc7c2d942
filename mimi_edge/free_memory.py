"""Memory that can still be had: what the system has left, and no more than the control groups of this process allow.

In a container, or below `systemd-run -p MemoryMax=8G`, the system's own figure is that of the whole machine; who takes
as much is killed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mimi_edge.kernel_files import ROOT, meminfo_bytes, number_of, text_of

GROUPS = Path("sys/fs/cgroup")


@dataclass(frozen=True)
class _Version:
    """Where control groups of one version say something.

    Attributes:
        own: how the line of `/proc/self/cgroup` begins that says which group a process is in.
        folder: of all groups.
        limit: file with the most that a group may take.
        taken: file with what it takes.
        cached: entry of `memory.stat` with how much of that is a cache of files, which goes when memory is wanted.
    """

    own: str
    folder: str
    limit: str
    taken: str
    cached: str


VERSIONS = (
    _Version("0::", "", "memory.max", "memory.current", "inactive_file"),
    _Version("memory:", "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def free_memory_bytes(root: Path = ROOT) -> int | None:
    """Memory that this process can have without swapping, where the system tells.

    Args:
        root: of the file system, for tests.
    """
    system = meminfo_bytes(root).get("MemAvailable")
    return min([*([] if system is None else [system]), *_left_by_groups(root)], default=None)


def _left_by_groups(root: Path) -> Iterator[int]:
    """Of each group that this process is in and that has a limit."""
    for version in VERSIONS:
        for group in _own_groups(root, version):
            limit, taken = number_of(group / version.limit), number_of(group / version.taken)
            if limit is not None and taken is not None:
                yield max(0, limit - max(0, taken - _cached(group / "memory.stat", version.cached)))


def _own_groups(root: Path, version: _Version) -> Iterator[Path]:
    """Its group and those around it. In a container of its own the outermost is all that is to be seen."""
    folder = root / GROUPS / version.folder
    lines = (text_of(root / "proc/self/cgroup") or "").splitlines()
    rests = (line.partition(":")[2] if version.folder else line for line in lines)
    own = next((rest.removeprefix(version.own) for rest in rests if rest.startswith(version.own)), "/")
    parts = [part for part in own.split("/") if part and part != ".."]
    for depth in range(len(parts), -1, -1):
        yield folder.joinpath(*parts[:depth])


def _cached(statistics: Path, entry: str) -> int:
    lines = (line.split() for line in (text_of(statistics) or "").splitlines())
    return sum(int(line[1]) for line in lines if line[:1] == [entry] and line[1:] and line[1].isdigit())
