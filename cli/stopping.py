"""Ctrl-C and SIGTERM: at once while nothing can be lost, as a polite request while a run is trained."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from mimi_edge.events import Listener, Note


def terminating_interrupts() -> None:
    """Makes SIGTERM do what Ctrl-C does, so that what was begun is tidied up."""
    signal.signal(signal.SIGTERM, _interrupt)


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
            _interrupt(number, frame)
        asked = True
        listener(Note("Stopping after this step; once more to stop at once."))

    previous = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield should_stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
