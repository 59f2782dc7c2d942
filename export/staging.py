"""Folders that appear whole or not at all: filled beside their place, then renamed by whoever asked for one."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mimi_edge.export.locking import locked
from mimi_edge.files import sync, umask

SUFFIX = ".part"
SETTLING_SECONDS = 60
"""A staging folder younger than this is left alone: its owner may not have locked it yet."""


@contextmanager
def staging_folder(place: Path) -> Iterator[Path]:
    """Gives an empty folder on the file system of `place`; what is left of it at the end is removed.

    Folders that killed processes left there earlier are removed too.

    Raises:
        OSError: the folder that will hold `place` cannot be written.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{place.name[:50]}."
    for left in place.parent.glob(f"{_literal(prefix)}*{SUFFIX}"):
        _remove_abandoned(left)
    folder = Path(tempfile.mkdtemp(prefix=prefix, suffix=SUFFIX, dir=place.parent))
    try:
        with locked(folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def settle(folder: Path) -> None:
    """Gives a folder and its files the usual modes and waits until they are on disk.

    Raises:
        OSError: the disk is full.
    """
    for path in folder.iterdir():
        settle_file(path)
    folder.chmod(0o777 & ~umask())
    sync(folder)


def settle_file(path: Path) -> None:
    """Gives a file the usual mode and waits until it is on disk.

    Raises:
        OSError: the disk is full.
    """
    path.chmod(0o666 & ~umask())
    sync(path)


def _remove_abandoned(folder: Path) -> None:
    with suppress(OSError):
        if time.time() - folder.stat().st_mtime > SETTLING_SECONDS:
            with locked(folder, wait=False):
                shutil.rmtree(folder, ignore_errors=True)


def _literal(text: str) -> str:
    """A pattern that matches exactly this text."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in text)
