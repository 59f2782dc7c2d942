"""Folders that appear whole or not at all: filled beside their place, then renamed by whoever asked for one."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mimi_edge.errors import ConfigError
from mimi_edge.export.locks import locked
from mimi_edge.files import is_free, name_unwritten, sync, umask

SUFFIX = ".part"
TEMPORARY = "mimi-edge"
SETTLING_SECONDS = 60
"""A staging folder younger than this is left alone: its owner may not have locked it yet."""


@contextmanager
def staging_folder(place: Path) -> Iterator[Path]:
    """Gives an empty folder on the file system of `place`; what is left of it at the end is removed.

    Folders that killed processes left there earlier are removed too.

    Raises:
        OSError: the folder that will hold `place` cannot be written, or the disk is full; it names `place`.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{place.name[:50]}."
    for left in place.parent.glob(f"{_literal(prefix)}*{SUFFIX}"):
        _remove_abandoned(left)
    folder = Path(tempfile.mkdtemp(prefix=prefix, suffix=SUFFIX, dir=place.parent))
    try:
        with locked(folder):
            yield folder
    except OSError as error:
        if (unwritten := _final_place(error, folder, place)) is not None:
            name_unwritten(error, unwritten)
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _final_place(error: OSError, staging: Path, place: Path) -> Path | None:
    """Where the file that could not be written would have been; None if the error is about something else."""
    named = error.filename2 or error.filename
    if named is None:
        return place
    try:
        return place / Path(os.fsdecode(named)).relative_to(staging)
    except (TypeError, ValueError):
        return None


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Gives an empty folder in the system's place for temporary ones; it is gone at the end.

    What killed processes of this user left there earlier goes, too.

    Raises:
        OSError: there is no room.
    """
    place = Path(tempfile.gettempdir()) / TEMPORARY
    with staging_folder(place) as folder:
        yield folder


def settle(folder: Path) -> None:
    """Gives a folder and all below it the usual modes and waits until they are on disk.

    Raises:
        OSError: the disk is full.
    """
    for path in folder.iterdir():
        (settle if path.is_dir() else settle_file)(path)
    folder.chmod(0o777 & ~umask())
    sync(folder)


def require_free(place: Path) -> None:
    """Makes sure that a folder may take a place.

    Raises:
        ConfigError: there is something of that name that is no empty folder.
    """
    if not is_free(place):
        raise ConfigError(f"{place} exists already. Remove it, or choose another folder.")


def settle_file(path: Path) -> None:
    """Gives a file the usual mode and waits until it is on disk.

    Raises:
        OSError: the disk is full.
    """
    path.chmod(0o666 & ~umask())
    sync(path)


def _remove_abandoned(folder: Path) -> None:
    with suppress(OSError):
        status = folder.lstat()
        mine = not hasattr(os, "getuid") or status.st_uid == os.getuid()
        if mine and stat.S_ISDIR(status.st_mode) and time.time() - status.st_mtime > SETTLING_SECONDS:
            with locked(folder, wait=False):
                shutil.rmtree(folder, ignore_errors=True)


def _literal(text: str) -> str:
    """A pattern that matches exactly this text."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in text)
