"""Locks of the system on what a descriptor has open; they go with the process that holds them, however it ends."""

from __future__ import annotations

import errno
import os
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

NO_LOCKS = frozenset({errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.ENOSYS, errno.EINVAL, errno.EBADF})
"""What file systems answer that have no locks."""


def try_lock(descriptor: int, *, exclusive: bool) -> bool:
    """Whether the lock could be had at once; where there are no locks it always can.

    Raises:
        OSError: the system cannot say.
    """
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    return True


def is_still_there(path: Path, descriptor: int) -> bool:
    """Whether a path still leads to what was opened there: it may have been removed, or renamed over, meanwhile."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
