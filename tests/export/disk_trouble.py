"""Processes that are killed, and disks that fill up, at every step of some work."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mimi_edge.errors import ArtifactError

DIED = 77
WRITES = [(os, "fsync"), (os, "replace"), (os, "rename"), (Path, "rename"), (Path, "replace"), (shutil, "copyfile")]
REMOVALS = [(Path, "unlink"), (shutil, "rmtree")]
"""A process may be killed before these; a full disk does not keep them from working."""


@contextmanager
def before_each_write(act: Callable[[], None], writes=WRITES) -> Iterator[None]:
    """Calls `act` before everything that changes the disk for good."""
    patch = pytest.MonkeyPatch()
    for owner, name in writes:
        real = getattr(owner, name)

        def acting(*arguments, real=real, **keywords):
            act()
            return real(*arguments, **keywords)

        patch.setattr(owner, name, acting)
    try:
        yield
    finally:
        patch.undo()


def killed_at(step: int, work: Callable[[], object]) -> bool:
    """Runs `work` in a child that dies, without any cleaning up, before its write number `step`; False if it ended."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == DIED
    left = step

    def die_in_time() -> None:
        nonlocal left
        if left == 0:
            os._exit(DIED)
        left -= 1

    try:
        with before_each_write(die_in_time, [*WRITES, *REMOVALS]):
            work()
        os._exit(0)
    finally:
        os._exit(1)


def full_at_every_write(work: Callable[[], object]) -> Iterator[int]:
    """Runs `work` again and again, the disk full from one write later each time, until it does without it."""
    for step in range(200):
        left = step

        def fill() -> None:
            nonlocal left
            if left <= 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            left -= 1

        try:
            with before_each_write(fill):
                work()
        except (OSError, ArtifactError):
            yield step
        else:
            return
