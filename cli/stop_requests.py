"""Ctrl-C and its kin while a run is trained: a polite request, that is answered after the step."""

from __future__ import annotations

import errno
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from mimi_edge.cli.interrupts import ENDING, answerable, interrupt, leave_closed_terminal
from mimi_edge.events import Event, Listener, Note

ASKING = (*ENDING, "SIGQUIT")
"""Names of the signals that ask a training to stop."""


@contextmanager
def stop_requests(listener: Listener) -> Iterator[Callable[[], bool]]:
    """Gives a function that says whether somebody asked to stop.

    Until it is called for the first time nobody would answer a request, and nothing is lost: then a signal interrupts
    at once. After that the first signal asks, and a second one insists.

    Args:
        listener: hears that the request was understood.
    """
    listening = asked = False

    def should_stop() -> bool:
        nonlocal listening
        listening = True
        return asked

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked or not listening:
            interrupt(number, frame)
            return
        asked = True
        leave_closed_terminal(number)
        with suppress(RuntimeError):  # it came in the middle of another sentence
            listener(Note("Stopping after this step; once more to stop at once."))

    previous = {number: signal.signal(number, ask) for number in answerable(*ASKING)}
    try:
        yield should_stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def outliving_the_terminal(listener: Listener) -> Listener:
    """The same listener, but a terminal that is closed ends nothing: the signal that says so comes after a while."""

    def hear(event: Event) -> None:
        try:
            listener(event)
        except OSError as error:
            if error.errno != errno.EIO:
                raise

    return hear
