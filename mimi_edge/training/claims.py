"""A run folder belongs to one process while it is worked on; the claim ends with the process, however that ends.

The claim is a lock on a file in the folder that also says whose it is. A claim under which no run began takes the
folder away again, and what is left of one that was killed before that is taken over by the next.
"""

from __future__ import annotations

import errno
import os
import shlex
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from mimi_edge.errors import ConfigError
from mimi_edge.file_locks import is_still_there
from mimi_edge.files import remove_parts_of
from mimi_edge.training.config import CONFIG_FILE, OPTIONS_FILE, SPLIT_FILE, run_files
from mimi_edge.training.round_files import round_files

LOCK_FILE = ".lock"
"""In a run folder: locked by whoever works on it, and says who that is."""
OWNER_TRIES, OWNER_SECONDS = 20, 0.05
LONGEST_OWNER_BYTES = 300
_HAS_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
"""What some network file systems say; there, only the names of new runs are kept apart."""


@dataclass(frozen=True)
class Claim:
    """A run folder that nobody but this process works on.

    Attributes:
        folder: of the run.
        descriptor: of the locked file; None where there are no locks.
        made: folders that were made for it, innermost first.
    """

    folder: Path
    descriptor: int | None
    made: tuple[Path, ...]


class _TakenError(Exception):
    """Another process works on the folder; the text says which."""


@contextmanager
def claimed_new(folder: Path) -> Iterator[Claim]:
    """Claims a folder for a new run; it is made if it is not there.

    Raises:
        ConfigError: it holds a run already, or somebody else is about to make one there.
        OSError: it cannot be written.
    """
    try:
        claim = _claim(folder)
    except _TakenError as owner:
        raise ConfigError(f"{folder} is being worked on by {owner}. Name another folder with --run.") from None
    with _given_up_after(claim):
        if _holds_a_run(folder):
            raise ConfigError(
                f"{folder} already holds a run. Go on with it: mimi-edge train --resume {shlex.quote(str(folder))}; "
                "or name another folder with --run."
            )
        yield claim


@contextmanager
def claimed_free(wished: Path) -> Iterator[Claim]:
    """Claims the folder of that name for a new run, or the one with the first number that is free.

    Raises:
        OSError: it cannot be written.
    """
    names = (wished if number == 1 else wished.with_name(f"{wished.name}-{number}") for number in count(1))
    claim = next(claim for name in names if (claim := _claim_if_free(name)) is not None)
    with _given_up_after(claim):
        yield claim


@contextmanager
def claimed_again(folder: Path, task: str) -> Iterator[Claim]:
    """Claims the folder of a run to go on with, and clears away what a killed process left of its files.

    Args:
        folder: that holds a run.
        task: its name.

    Raises:
        ConfigError: somebody is working on it.
        OSError: it cannot be written.
    """
    try:
        claim = _claim(folder)
    except _TakenError as owner:
        raise ConfigError(
            f"{folder} is being worked on by {owner}. Wait until that has ended; or stop it there with Ctrl-C, which "
            f"loses nothing, and go on: mimi-edge train --resume {shlex.quote(str(folder))}"
        ) from None
    with _given_up_after(claim):
        for name in run_files(task):
            remove_parts_of(folder / name)
        for path in round_files(folder, task):
            remove_parts_of(path)
        yield claim


def _claim_if_free(folder: Path) -> Claim | None:
    """A claim on a folder that is not there yet, or that somebody left before a run began."""
    if folder.exists() and not _is_left_over(folder):
        return None
    try:
        claim = _claim(folder)
    except _TakenError:
        return None
    if _holds_a_run(folder):
        _give_up(claim)
        return None
    return claim


def _is_left_over(folder: Path) -> bool:
    """Whether a claim ended there, by a kill, before there was a run."""
    return (folder / LOCK_FILE).exists() and not _holds_a_run(folder)


def _holds_a_run(folder: Path) -> bool:
    return (folder / CONFIG_FILE).exists()


def _claim(folder: Path) -> Claim:
    """Makes and locks a folder.

    Raises:
        _TakenError: another process has it.
        OSError: it cannot be made or written.
    """
    while True:
        left_over = (folder,) if _is_left_over(folder) else ()
        made = left_over or tuple(place for place in (folder, *folder.parents) if not place.exists())
        folder.mkdir(parents=True, exist_ok=True)
        try:
            return Claim(folder, _locked(folder / LOCK_FILE), made)
        except FileNotFoundError:
            continue  # whoever had it gave it up just now, and the folder with it


def _owner(descriptor: int) -> str:
    """Whose a lock is; who took it this moment is given the time to write that down."""
    for _ in range(OWNER_TRIES):
        if owner := os.pread(descriptor, LONGEST_OWNER_BYTES, 0).decode(errors="replace").strip():
            return owner
        time.sleep(OWNER_SECONDS)
    return ""


def _locked(path: Path) -> int | None:
    """A descriptor of a file that this process made or found, and locked."""
    try:
        import fcntl
    except ImportError:  # not on this system
        return None
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = _owner(descriptor)
            os.close(descriptor)
            raise _TakenError(owner or "another process") from error
        except OSError as error:
            os.close(descriptor)
            if error.errno not in _HAS_NO_LOCKS:
                raise
            path.unlink(missing_ok=True)
            return None
        if is_still_there(path, descriptor):
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
            return descriptor
        os.close(descriptor)  # of a file that its owner removed in the meantime


@contextmanager
def _given_up_after(claim: Claim) -> Iterator[None]:
    try:
        yield
    finally:
        _give_up(claim)


def _give_up(claim: Claim) -> None:
    """Lets go of a folder, and takes away what was made for a run that never began."""
    with suppress(OSError):  # a folder that is gone, or that others have put something into
        if not _holds_a_run(claim.folder):
            for name in (SPLIT_FILE, OPTIONS_FILE):
                (claim.folder / name).unlink(missing_ok=True)
        if claim.descriptor is not None:
            (claim.folder / LOCK_FILE).unlink(missing_ok=True)
        if not _holds_a_run(claim.folder):
            for place in claim.made:
                place.rmdir()
    if claim.descriptor is not None:
        os.close(claim.descriptor)
