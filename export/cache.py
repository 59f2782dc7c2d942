"""Where backbone graphs are kept between runs, under names made from what they hold."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mimi_edge.caches import CACHE_VARIABLE
from mimi_edge.documents import json_value, read_bytes, typed
from mimi_edge.errors import ConfigError, MimiEdgeError
from mimi_edge.export.staging import settle, staging_folder
from mimi_edge.files import remove_folder, sha256_of, write_whole
from mimi_edge.texts import json_text

LARGEST_SEAL_BYTES = 1_000_000
SEAL = "sha256.json"
"""Name of the file in an entry that says what its other files hash to."""


def is_whole(entry: Path) -> bool:
    """Whether an entry exists and all its files are as they were when it was sealed."""
    try:
        sealed = typed(json_value(read_bytes(entry / SEAL, LARGEST_SEAL_BYTES)), dict[str, str])
        there = {path.name for path in entry.iterdir()} - {SEAL}
        # A file that the seal leaves out could be anything, and would be used all the same.
        return bool(there) and sealed.keys() == there and all(_is(entry / name, sealed[name]) for name in there)
    except (OSError, ValueError):
        return False


def _is(path: Path, digest: object) -> bool:
    return not path.is_symlink() and path.is_file() and sha256_of(path) == digest


class VanishedError(MimiEdgeError):
    """Somebody removed the cache while it was written to or read from."""


@contextmanager
def new_entry(entry: Path) -> Iterator[Path]:
    """Gives an empty folder to fill; when the block ends well it is sealed and becomes `entry`, else it vanishes.

    Where another process has made the same entry meanwhile, that one stays and this one is dropped. A damaged entry is
    replaced.

    Raises:
        ConfigError: the cache cannot be written.
        OSError: the disk is full; it names the cache.
        VanishedError: somebody removed the cache meanwhile.
    """
    try:
        with staging_folder(entry) as beside, _noticing(beside):
            yield beside
            _seal(beside)
            _publish(beside, entry)
    except PermissionError as error:
        raise ConfigError(
            f"Cannot write the cache {entry.parent} ({error.strerror}). "
            f"Set {CACHE_VARIABLE} to a folder that can be written."
        ) from error
    except OSError as error:
        # A full disk names no file, and numpy gives not even a reason.
        reason = error.strerror or f"{error}, is the disk full?"
        raise OSError(error.errno or errno.ENOSPC, reason, str(entry.parent)) from error


@contextmanager
def _noticing(folder: Path) -> Iterator[None]:
    """Whatever fails because its folder is gone fails for that."""
    try:
        yield
    except Exception as error:
        if folder.exists():
            raise
        raise VanishedError(
            f"The cache {folder.parent} was removed while it was written to. Run the command again."
        ) from error


def _seal(folder: Path) -> None:
    digests = {path.name: sha256_of(path) for path in sorted(folder.iterdir())}
    write_whole(folder / SEAL, json_text(digests).encode())
    settle(folder)


def _publish(beside: Path, entry: Path) -> None:
    """Renames a sealed folder; tries again as long as others put theirs there or take damaged ones away."""
    while True:
        try:
            beside.rename(entry)
        except OSError:
            if not entry.exists():
                raise
            if is_whole(entry):
                return
            remove_folder(entry, ignore_errors=True)  # a damaged one
        else:
            return
