"""Says how far through its bytes some work is, in megabytes."""

from __future__ import annotations

from mimi_edge.events import Advance, Listener
from mimi_edge.files import MEGABYTE


class ByteProgress:
    """Tells a listener of each megabyte that is done.

    Args:
        listener: hears it.
        stage: name of the work.
        total_bytes: of all of it.
    """

    def __init__(self, listener: Listener, stage: str, total_bytes: int) -> None:
        self._listener, self._stage = listener, f"{stage} (MB)"
        self._total_bytes, self._done_bytes, self._told = total_bytes, 0, -1
        self(0)

    def __call__(self, size_bytes: int) -> None:
        """So many bytes more are done."""
        self._done_bytes = min(self._done_bytes + size_bytes, self._total_bytes)
        done = _megabytes(self._done_bytes)
        if done != self._told:
            self._told = done
            self._listener(Advance(self._stage, done, _megabytes(self._total_bytes)))


def _megabytes(size_bytes: int) -> int:
    return -(-size_bytes // MEGABYTE)
