"""Shows progress: two live lines on a terminal, a plain line now and then elsewhere; always on stderr."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mimi_edge.cli.output import say_on, talk_console
from mimi_edge.events import Advance, Event, Listener, Note
from mimi_edge.texts import safe_line

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import Progress, TaskID

PLAIN_SECONDS = 10.0
SHORT_SECONDS = 1.0
"""A stage that takes no longer is not worth a plain line."""


@contextmanager
def watching() -> Iterator[Listener]:
    """Gives a listener that shows what it hears until the block ends."""
    console = talk_console()
    if not console.is_terminal:
        yield _PlainLines(console)
        return
    progress = _live(console)
    with progress:
        yield _LiveLines(progress)


def _live(console: Console) -> Progress:
    """A bar for the stage that is going on, and its figures in a line of their own: together they are too wide."""
    from rich.padding import Padding
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class TwoLines(Progress):
        def get_renderables(self) -> Iterable[RenderableType]:
            yield self.make_tasks_table(self.tasks)
            for task in self.tasks:
                if task.fields["figures"]:
                    yield Padding(Text(task.fields["figures"], "dim", no_wrap=True, overflow="ellipsis"), (0, 0, 0, 2))

    return TwoLines(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("left"),
        console=console,
        transient=True,
    )


def _figures(event: Advance) -> str:
    return safe_line("  ".join(f"{name} {value}" for name, value in event.figures.items()))


def _finished(event: Advance) -> bool:
    return event.total is not None and event.done >= event.total


class _LiveLines:
    """The stage that is going on; of one that ended its figures stay, if it had any."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._stage = ""
        self._line: TaskID | None = None

    def __call__(self, event: Event) -> None:
        if isinstance(event, Note):
            say_on(self._progress.console, event.text)
            return
        if self._line is None or event.stage != self._stage:
            self._end()
            self._stage = event.stage
            self._line = self._progress.add_task(safe_line(event.stage), total=event.total, figures="")
        self._progress.update(self._line, completed=event.done, total=event.total, figures=_figures(event))
        if _finished(event):
            self._end()
            if event.figures:
                say_on(self._progress.console, f"{event.stage}: {_figures(event)}")

    def _end(self) -> None:
        if self._line is not None:
            self._progress.remove_task(self._line)
        self._line = None


class _PlainLines:
    """A line when a stage has figures to end with, and every ten seconds of one that takes its time."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._stage = ""
        self._next = 0.0
        self._spoke = False

    def __call__(self, event: Event) -> None:
        if isinstance(event, Note):
            say_on(self._console, event.text)
            return
        now = time.monotonic()
        if event.stage != self._stage:
            self._stage, self._next, self._spoke = event.stage, now + SHORT_SECONDS, False
        if now < self._next and not (_finished(event) and (self._spoke or event.figures)):
            return
        self._next, self._spoke = now + PLAIN_SECONDS, True
        of = "" if event.total is None else f"/{event.total}"
        say_on(self._console, f"{event.stage}: {event.done}{of}  {_figures(event)}".rstrip())
