"""Shows progress: a live line on a terminal, a plain line now and then elsewhere; always on stderr."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from mimi_edge.cli.output import talk_console
from mimi_edge.events import Advance, Event, Listener, Note

PLAIN_SECONDS = 10.0


@contextmanager
def watching() -> Iterator[Listener]:
    """Gives a listener that shows what it hears until the block ends."""
    console = talk_console()
    if not console.is_terminal:
        yield _PlainLines(console)
        return
    progress = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}", markup=False),
        TimeRemainingColumn(),
        console=console,
    )
    with progress:
        yield _LiveLines(progress)


def _figures(event: Advance) -> str:
    return "  ".join(f"{name} {value}" for name, value in event.figures.items())


class _LiveLines:
    """One live line a stage; a finished stage stays, a new one begins below."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._lines: dict[str, TaskID] = {}

    def __call__(self, event: Event) -> None:
        if isinstance(event, Note):
            self._progress.console.print(Text(event.text), soft_wrap=True)
            return
        if event.stage not in self._lines:
            self._lines[event.stage] = self._progress.add_task(event.stage, total=event.total, figures="")
        self._progress.update(
            self._lines[event.stage], completed=event.done, total=event.total, figures=_figures(event)
        )


class _PlainLines:
    """A line when a stage begins and ends, and every ten seconds in between."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._stage = ""
        self._said = 0.0

    def __call__(self, event: Event) -> None:
        if isinstance(event, Note):
            self._print(event.text)
            return
        now, finished = time.monotonic(), event.total is not None and event.done >= event.total
        if event.stage == self._stage and not finished and now - self._said < PLAIN_SECONDS:
            return
        self._stage, self._said = event.stage, now
        of = "" if event.total is None else f"/{event.total}"
        self._print(f"{event.stage}: {event.done}{of}  {_figures(event)}".rstrip())

    def _print(self, text: str) -> None:
        self._console.print(Text(text), soft_wrap=True)
