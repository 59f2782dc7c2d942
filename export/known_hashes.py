"""What large files hash to, worked out once: a file that nobody touched since is not read again.

The weights of a backbone are hundreds of megabytes and are the same for years. What such a file hashed to is kept in
the user's cache, under a name made of its device, inode, size and times. The system sets the time of the last change
(ctime) at every write and lets nobody set it back, so an altered file has another name there. A disk that decays in
silence is not noticed this way; `mimi-edge verify` always reads everything.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from mimi_edge.caches import content_key, default_cache
from mimi_edge.files import sha256_of, write_whole

FOLDER = "hashes"
SMALL_BYTES = 4_000_000
"""Hashing so much takes no longer than looking it up."""
SETTLED_SECONDS = 2.0
"""A file that was changed more recently could change again within the same tick of its clock."""
MOST_KEPT = 500


def remembered_sha256(path: Path) -> str:
    """Hex SHA-256 of a file's content, as it was when a file with the same inode, size and times was last read.

    Raises:
        OSError: it cannot be read.
    """
    status = path.stat()
    if status.st_size > SMALL_BYTES:
        with suppress(OSError, UnicodeDecodeError):
            known = _place(status).read_text("ascii")
            if len(known) == 64:
                return known
    return remembered_from(path, sha256_of)


def remembered_from(path: Path, reading: Callable[[Path], str]) -> str:
    """The same where the file is read in any case, by what reads all of it and gives its SHA-256.

    Raises:
        OSError: it cannot be read.
    """
    status = path.stat()
    digest = reading(path)
    if (
        status.st_size > SMALL_BYTES
        and _key(path.stat()) == _key(status)
        and time.time() - status.st_ctime > SETTLED_SECONDS
    ):
        _remember(_place(status), digest)
    return digest


def _place(status: os.stat_result) -> Path:
    return default_cache() / FOLDER / _key(status)


def _key(status: os.stat_result) -> str:
    return content_key(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _remember(kept: Path, digest: str) -> None:
    # Where nothing can be kept, the file is read every time.
    with suppress(OSError):
        write_whole(kept, digest.encode())
        for old in sorted(kept.parent.iterdir(), key=lambda path: path.stat().st_mtime)[:-MOST_KEPT]:
            old.unlink(missing_ok=True)
