"""Locks on folders: many processes read what is in one, or a single process changes it.

The system lets go of a lock when its process ends, however it ends. Where a file system or the system has no such
locks, work goes on without: what is read is hashed anyway.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from mimi_edge.errors import ConfigError
from mimi_edge.events import Listener, Note, silent
from mimi_edge.file_locks import NO_LOCKS

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

PATIENT_SECONDS = 1.0
"""Waiting that long is nothing to talk about."""
LOOKING_SECONDS = 0.02

_Place = tuple[int, int]
_guard = threading.Lock()
_held: list[tuple[int, _Place, bool]] = []
"""Thread, folder by device and inode, and whether the lock is exclusive: of all locks of this process."""


@contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Keeps a folder as it is while the block lasts: who wants to change it waits. Any number may read at once.

    Raises:
        OSError: the system is out of descriptors.
    """
    with ExitStack() as stack:
        if fcntl is not None and not _holds(folder, exclusive=True):
            try:
                stack.enter_context(_taken(folder, exclusive=False, wait=True, listener=silent))
            except FileNotFoundError:
                pass  # whoever looks into it says so better
            except PermissionError:
                pass  # it can be looked into, but not be listed
        yield


@contextmanager
def locked(folder: Path, *, wait: bool = True, listener: Listener = silent) -> Iterator[None]:
    """Keeps other processes from reading and from changing a folder while the block lasts.

    Args:
        folder: that exists.
        wait: until nobody else has it.
        listener: hears after a second that others are waited for.

    Raises:
        BlockingIOError: another process has the lock and `wait` is False.
        ConfigError: this very thread reads the folder, and would wait for itself.
        OSError: there is no such folder.
    """
    if fcntl is None:
        yield
        return
    if wait and read_here(folder):
        raise ConfigError(
            f"{folder} cannot be changed while this part of the program reads it: it would wait for itself. "
            "Close what was opened from it first."
        )
    with _taken(folder, exclusive=True, wait=wait, listener=listener):
        yield


@contextmanager
def _taken(folder: Path, *, exclusive: bool, wait: bool, listener: Listener) -> Iterator[None]:
    with ExitStack() as stack:
        while True:
            descriptor = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, descriptor)
            _lock(descriptor, folder, exclusive, wait, listener)
            # Another folder may have been renamed to this place while it was waited for.
            if os.path.samestat(os.fstat(descriptor), folder.stat()):
                break
            stack.close()
        entry = (threading.get_ident(), _place(os.fstat(descriptor)), exclusive)
        with _guard:
            _held.append(entry)
        stack.callback(_forget, entry)
        yield


def _lock(descriptor: int, folder: Path, exclusive: bool, wait: bool, listener: Listener) -> None:
    operation = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
    try:
        if not wait:
            fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
        elif not _free_soon(descriptor, operation):
            listener(Note(f"Waiting for other processes that use {folder}."))
            fcntl.flock(descriptor, operation)
    except BlockingIOError:
        raise
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise


def _free_soon(descriptor: int, operation: int) -> bool:
    """Takes the lock if it can be had within `PATIENT_SECONDS`."""
    end = time.monotonic() + PATIENT_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                return False
            time.sleep(LOOKING_SECONDS)
        else:
            return True


def read_here(folder: Path) -> bool:
    """Whether this very thread reads the folder already."""
    return _holds(folder, exclusive=False)


def _holds(folder: Path, *, exclusive: bool) -> bool:
    """Whether this thread has the folder locked so already."""
    try:
        place = _place(folder.stat())
    except OSError:
        return False
    with _guard:
        return (threading.get_ident(), place, exclusive) in _held


def _forget(entry: tuple[int, _Place, bool]) -> None:
    with _guard:
        _held.remove(entry)


def _place(status: os.stat_result) -> _Place:
    return status.st_dev, status.st_ino
