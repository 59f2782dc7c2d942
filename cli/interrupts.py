"""What signals do from the first moment to the last: one of them interrupts, and more of the same change nothing."""

from __future__ import annotations

import math
import os
import signal
import time
from types import FrameType

ENDING = ("SIGINT", "SIGTERM", "SIGHUP")
"""Names of the signals that end a command wherever it is; not every system has all of them."""
SETTLING_SECONDS = 1.0
"""Signals within this time of one that interrupted mean the same; they must not break into the tidying up."""


class _Interrupter:
    """Raises KeyboardInterrupt in the main thread, once for all signals of a moment.

    Where it is lost, because it came while Python was in a place that lets no exception out, a later signal raises it
    again.
    """

    def __init__(self) -> None:
        self._last = -math.inf

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        """Handles a signal."""
        leave_closed_terminal(number)
        now = time.monotonic()
        if now - self._last >= SETTLING_SECONDS:
            self._last = now
            raise KeyboardInterrupt


interrupt = _Interrupter()


def answerable(*names: str) -> tuple[signal.Signals, ...]:
    """Of the signals with these names those that there are, and that whoever began this process wants answered.

    `nohup` has a closed terminal ignored, and a shell has Ctrl-C ignored by what it runs in the background.
    """
    numbers = (getattr(signal, name, None) for name in names)
    return tuple(number for number in numbers if number and signal.getsignal(number) is not signal.SIG_IGN)


def ending_signals_interrupt() -> None:
    """Makes the signals that end a command do what Ctrl-C does, so that what was begun is tidied up."""
    for number in answerable(*ENDING):
        signal.signal(number, interrupt)


def no_more_signals() -> None:
    """Lets what ends end: from here on a signal could only turn the answer into a traceback."""
    for number in answerable(*ENDING):
        signal.signal(number, signal.SIG_IGN)


def leave_closed_terminal(number: int) -> None:
    """Sends what is still said nowhere, if a signal says that the terminal was closed and it really is.

    Otherwise the first sentence would fail, and with it the saving that the signal is answered with.
    """
    if number != getattr(signal, "SIGHUP", None):
        return
    for descriptor in (1, 2):
        try:
            os.write(descriptor, b"")
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
