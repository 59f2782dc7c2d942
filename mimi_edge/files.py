"""Files that appear whole or not at all, and what they hash to."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path

from mimi_edge.documents import opened_regular
from mimi_edge.errors import ConfigError
from mimi_edge.texts import json_text

MEGABYTE = 1000**2
CHUNK_BYTES = 1 << 20
PART = ".part"
"""Ending of what is written beside a file before it takes the file's name."""
NOTHING_KEPT = "; nothing of it was kept, and what was there before is as it was"
"""What can be said of everything that appears whole or not at all."""
ABANDONED_SECONDS = 60
"""Such a file that is younger is left alone: its owner may not have marked it yet."""


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file under its final name only once all of it is on disk.

    Raises:
        OSError: the disk is full or the folder cannot be written; nothing is left behind.
    """
    with whole_file(path) as beside:
        beside.write_bytes(content)


def write_json(path: Path, document: object) -> None:
    """Writes a document of JSON for people and programs, whole or not at all."""
    write_whole(path, (json_text(document) + "\n").encode())


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Gives a path beside `path` to write to; it takes the final name when the block ends well, else it vanishes.

    What killed processes left of earlier writes of the same file is removed.

    Raises:
        OSError: the disk is full or the folder cannot be written; nothing is left behind. It names `path`.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=PART, dir=path.parent)
        beside = Path(name)
        try:
            _mark(handle)
            yield beside
            beside.chmod(0o666 & ~umask())
            sync(beside)
            beside.replace(path)
            sync(path.parent)
        finally:
            os.close(handle)
            beside.unlink(missing_ok=True)
    except OSError as error:
        # The name of the one beside helps nobody.
        name_unwritten(error, path)
        raise


def remove_parts_of(path: Path) -> None:
    """Removes what processes that were killed while they wrote a file left beside it; nobody may be writing it now."""
    for left in _parts_of(path):
        left.unlink(missing_ok=True)


def name_unwritten(error: OSError, place: Path) -> None:
    """Makes an error of the system say what could not be written, and that nothing of it was kept.

    A full disk names no file, and numpy gives not even a reason.
    """
    reason = error.strerror or f"{error}, is the disk full?"
    error.errno = error.errno or errno.ENOSPC
    error.strerror = reason if reason.endswith(NOTHING_KEPT) else reason + NOTHING_KEPT
    error.filename, error.filename2 = str(place), None


def _parts_of(path: Path) -> Iterator[Path]:
    yield from path.parent.glob(f".{escape(path.name)}.*{PART}")


def _remove_abandoned(path: Path) -> None:
    """Removes what killed processes left of a file, but not what others are writing or are about to."""
    for left in _parts_of(path):
        with suppress(OSError):
            if not left.is_symlink() and left.is_file() and time.time() - left.stat().st_mtime > ABANDONED_SECONDS:
                _remove_unmarked(left)


def _remove_unmarked(part: Path) -> None:
    handle = os.open(part, os.O_RDWR)
    try:
        if _mark(handle):
            part.unlink()
    finally:
        os.close(handle)


def _mark(handle: int) -> bool:
    """Marks a file as being written for as long as it is open; False where another process has marked it.

    The mark of a killed process goes with it. Where there are no such marks, every file may be somebody's.
    """
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):
        return False
    return True


def is_free(place: Path) -> bool:
    """Whether there is nothing of this name, or an empty folder."""
    return not place.exists() or (place.is_dir() and not any(place.iterdir()))


def check_place(path: Path, *, folder: bool = False) -> None:
    """Makes sure that something can come to be at a path, before the work for it begins; nothing is left behind.

    Args:
        path: of a file, or of a folder.
        folder: which of the two; files come to be in a folder.

    Raises:
        ConfigError: the place is taken by the other of the two, is below a file, or cannot be written.
    """
    kind, other = ("folder", "file") if folder else ("file", "folder")
    if path.exists() and path.is_dir() is not folder:
        raise ConfigError(f"{path} is a {other}; expected the name of a {kind}. Choose another name.")
    there = path if folder else path.parent
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir():
        raise ConfigError(f"{path} cannot be written: {there} is no folder. Choose another place.")
    try:
        with tempfile.TemporaryFile(dir=there):
            return
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written: {there} takes no file ({error.strerror}). Choose another place, or make room."
        ) from error


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a regular file's content.

    Raises:
        OSError: it cannot be read, or is a folder, a pipe or a device.
    """
    digest = hashlib.sha256()
    with opened_regular(path) as opened:
        while chunk := opened.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_of_bytes(content: bytes) -> str:
    """Hex SHA-256 of what a file holds, for whoever has it in memory."""
    return hashlib.sha256(content).hexdigest()


def copy_hashed(source: Path, target: Path) -> str:
    """Copies a regular file, and gives the hex SHA-256 of what was written: it is read once for both.

    Raises:
        OSError: it cannot be read, is a folder, a pipe or a device, or the disk is full.
    """
    digest = hashlib.sha256()
    try:
        with opened_regular(source) as opened, target.open("wb") as written:
            while chunk := opened.read(CHUNK_BYTES):
                digest.update(chunk)
                written.write(chunk)
    except OSError as error:
        error.filename = error.filename or str(target)  # a full disk names no file
        raise
    return digest.hexdigest()


def remove_folder(folder: Path, *, ignore_errors: bool = False) -> None:
    """Takes a folder away in one step, so that nobody finds half of it; who has its files open keeps what they hold.

    Args:
        folder: that may be gone by now.
        ignore_errors: leave what cannot be removed, under another name.

    Raises:
        OSError: something cannot be removed.
    """
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name[:50]}.", suffix=PART, dir=folder.parent))
    try:
        with suppress(FileNotFoundError):
            folder.rename(aside)
    finally:
        shutil.rmtree(aside, ignore_errors=ignore_errors)


def sync(path: Path) -> None:
    """Waits until a file, or a folder's list of names, is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def umask() -> int:
    """The permission bits that new files go without."""
    current = os.umask(0)
    os.umask(current)
    return current
