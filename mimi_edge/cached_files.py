"""What lies in the cache folder, and taking it away; never what a running process has locked, nor what is not ours."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from mimi_edge.file_locks import try_lock
from mimi_edge.files import remove_folder

KINDS = {
    "images": "decoded images of training data",
    "backbones": "graphs of backbones",
    "timing": "what TensorRT measured of its kernels",
    "ort-trt": "engines that ONNX Runtime built with TensorRT",
    "hashes": "hashes of large files",
}
"""Folders in the cache, and what is in them."""
SETTLING_SECONDS = 60
"""What is being made and is younger is left alone: its owner may not have locked it yet."""
DAY_SECONDS = 86_400


@dataclass(frozen=True)
class CachedEntry:
    """A file or folder that can be taken away alone.

    Attributes:
        kind: one of KINDS.
        path: its place.
        size_bytes: of all its files.
        used: seconds since 1970 when it was last made or read, as far as the file system tells.
    """

    kind: str
    path: Path
    size_bytes: int
    used: float


def cached_entries(cache: Path, older_than_days: float = 0.0) -> list[CachedEntry]:
    """What the cache holds, by kind and name.

    Args:
        cache: the folder.
        older_than_days: only what was last used longer ago.
    """
    latest = time.time() - older_than_days * DAY_SECONDS if older_than_days else float("inf")
    found = [_entry(kind, path) for kind in KINDS for path in _listed(cache / kind)]
    return [entry for entry in found if entry is not None and entry.used <= latest]


def clear(entries: Sequence[CachedEntry]) -> list[CachedEntry]:
    """Takes entries away, and gives those that stay because a process uses them, or makes them.

    Raises:
        OSError: one cannot be removed.
    """
    return [entry for entry in entries if not _removed(entry)]


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _entry(kind: str, path: Path) -> CachedEntry | None:
    """None where it went away while it was looked at."""
    states = []
    for file in _files(path):
        with suppress(FileNotFoundError):
            states.append(file.lstat())
    with suppress(FileNotFoundError):
        times = [path.lstat().st_mtime, *(max(state.st_mtime, state.st_atime) for state in states)]
        return CachedEntry(kind, path, sum(state.st_size for state in states), max(times))
    return None


def _files(path: Path) -> Iterator[Path]:
    """All files of an entry; links are not followed."""
    if path.is_symlink() or not path.is_dir():
        yield path
        return
    for folder, _, names in os.walk(path):
        yield from (Path(folder) / name for name in names)


def _removed(entry: CachedEntry) -> bool:
    path = entry.path
    if path.name.startswith(".") and time.time() - entry.used < SETTLING_SECONDS:
        return False
    with _alone(path) as alone:
        if not alone:
            return False
        if path.is_symlink() or not path.is_dir():
            path.unlink(missing_ok=True)
        else:
            remove_folder(path)
    return True


@contextmanager
def _alone(path: Path) -> Iterator[bool]:
    """Whether nobody has anything of an entry locked; nobody can lock it while the block lasts."""
    with ExitStack() as stack:
        places = [path.parent, path, *_files(path)]
        yield all(_locked(place, stack) for place in dict.fromkeys(places))


def _locked(path: Path, stack: ExitStack) -> bool:
    if not _can_be_locked(path):
        return True
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return True
    stack.callback(os.close, descriptor)
    try:
        return try_lock(descriptor, exclusive=True)
    except OSError:
        return True  # whatever else a file system says that has no locks


def _can_be_locked(path: Path) -> bool:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return False
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)
