"""The one place that prints: results on stdout, talk on stderr, for people or as JSON."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from inspect import signature
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar

import typer

from mimi_edge.cli.failures import FAILED, INTERRUPTED, Failure, failure_of
from mimi_edge.texts import json_text, safe
from mimi_edge.training.torchrun import require_alone

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as Drawn
    from rich.text import Text

    from mimi_edge.profiles.rendering.table import Table

P = ParamSpec("P")
R = TypeVar("R")

NARROWEST = 100
"""Columns that a table gets where nobody looks at a terminal."""
WIDEST = 100_000
"""Columns at most, there."""
SHORT = 16
"""Letters of a cell that is never broken into lines."""
NARROW = 6
"""Letters that a column of longer cells is left with at least."""
MARGIN = 2
"""Columns of a terminal between two columns of a table."""
TERMINAL = 80
"""Columns that a terminal has at least."""
_JSON_OWED: ContextVar[bool] = ContextVar("json_owed", default=False)
"""Whether the command that runs was asked for JSON and has not printed any: stdout never gets two documents."""


def talk_console() -> Console:
    """Where talk goes: stderr."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def say(text: str) -> None:
    """Says a sentence to whoever watches; it is no part of the result."""
    say_on(talk_console(), text)


def say_on(console: Console, text: str) -> None:
    """Says a sentence on a console that is in use."""
    console.print(_plain(text), soft_wrap=True)


def show_json(document: object) -> None:
    """Prints a result for programs: JSON, and nothing else, on stdout."""
    _JSON_OWED.set(False)
    text = json_text(document)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json_text(document, ascii_only=True)
    with _to_stdout():
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def show_table(table: Table) -> None:
    """Prints a table for people, and says what one has to know to read it; columns of figures stand to the right."""
    drawn = _drawn()
    are_figures = (False, *table.figures[1:])
    for column, is_figure, width in zip(table.columns, are_figures, _least_widths(table), strict=True):
        side: Literal["left", "right"] = "right" if is_figure else "left"
        drawn.add_column(_plain(column), justify=side, min_width=width, overflow="fold")
    for row in table.rows:
        drawn.add_row(*map(_plain, row))
    _print_table(table.title, drawn)
    if table.note:
        say(table.note)


def _least_widths(table: Table) -> list[int | None]:
    """Of each column, in letters: figures are never broken, and a name that one may have to type only without room."""
    longest = [max(map(len, cells), default=0) for cells in map(table.column_at, range(len(table.columns)))]
    widths = [length if length <= SHORT else None for length in longest]
    others = sum((width or NARROW) + MARGIN for width in widths[1:])
    if longest and longest[0] + MARGIN + others <= TERMINAL:
        widths[0] = longest[0]
    return widths


def show_facts(title: str, facts: Mapping[str, object]) -> None:
    """Prints names and values for people."""
    drawn = _drawn(show_header=False)
    drawn.add_column(style="bold")
    drawn.add_column(overflow="fold")
    for name, value in facts.items():
        drawn.add_row(_plain(name), _plain(value))
    _print_table(title, drawn)


@dataclass(frozen=True)
class Advice:
    """Something to know, and what to do about it.

    Attributes:
        head: a word or two.
        text: what it is.
        line: to type; None where there is none.
        style: of the head.
    """

    head: str
    text: str
    line: str | None = None
    style: str = "bold"


def show_advice(title: str, entries: Sequence[Advice]) -> None:
    """Prints what to do for people; a line to type is never broken, so that it can be copied whole."""
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    console = Console(highlight=False)
    width = None if console.is_terminal else max(console.width, NARROWEST)
    with _to_stdout():
        console.print(Padding(Text(title, "bold"), (0, 0, 0, 1)), width=width)
        for entry in entries:
            head = Text(entry.head + ": ", entry.style)
            console.print(Padding(head.append_text(_plain(entry.text)), (1, 0, 0, 2)), width=width)
            if entry.line is not None:
                console.print(Text.assemble("      ", _plain(entry.line)), soft_wrap=True)


def _drawn(*, show_header: bool = True) -> Drawn:
    from rich import box
    from rich.table import Table as Drawn

    return Drawn(
        show_header=show_header,
        header_style="bold",
        box=box.SIMPLE_HEAD,
        collapse_padding=True,
    )


def _print_table(title: str, table: Drawn) -> None:
    """To a terminal as wide as that; elsewhere as wide as it is, for a path that is broken is none.

    The title is a line of its own: rich would break that of a narrow table where the table ends.
    """
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        wide = console.options.update(max_width=WIDEST)
        width = max(console.width, NARROWEST, console.measure(table, options=wide).maximum)
        console = Console(highlight=False, width=width)
    heading = _plain(title)
    heading.stylize("bold")
    with _to_stdout():
        console.print(heading, soft_wrap=not console.is_terminal)
        console.print(table)


def _plain(value: object) -> Text:
    """Text that means what it says: no markup, and nothing that steers a terminal."""
    from rich.text import Text

    return Text(safe(value))


SHARED = frozenset({"mimi_edge.cli.train"})
"""Commands that several processes can do together."""


def explained(command: Callable[P, R]) -> Callable[P, R]:
    """Turns what can go wrong into a message on stderr and an exit code, and under `--json` into JSON on stdout too."""
    options = signature(command).parameters

    @wraps(command)
    def explaining(*args: P.args, **kwargs: P.kwargs) -> R:
        owed = _JSON_OWED.set(bool(kwargs.get("as_json")))
        try:
            if command.__module__ not in SHARED:
                require_alone(command.__module__.rpartition(".")[2].replace("_", "-"))
            return command(*args, **kwargs)
        except BrokenPipeError:
            _abandon_stdout()
            raise typer.Exit(FAILED) from None
        except (Exception, KeyboardInterrupt) as error:
            failure = failure_of(error, options)
            if failure is None:
                raise
            _end(failure)
        finally:
            _JSON_OWED.reset(owed)
        raise AssertionError  # _end always raises

    return explaining


def fail(message: str, exit_code: int) -> None:
    """Says what went wrong and ends the process."""
    _end(Failure("failed", message, exit_code))


def usage_failed(message: str, exit_code: int) -> None:
    """Says, in words and as JSON, that a command was not called as it can be."""
    tell(Failure("usage", message, exit_code), as_json=True)


def tell(failure: Failure, *, as_json: bool) -> None:
    """Says what went wrong: in words on stderr, and as JSON on stdout where that was asked for."""
    if as_json:
        with suppress(OSError):  # the words on stderr are left, and they may be about this very thing
            show_json(failure.document)
    word = "Stopped: " if failure.exit_code == INTERRUPTED else "Error: "
    try:
        from rich.text import Text

        talk_console().print(Text.assemble((word, "bold red"), _plain(failure.message)), soft_wrap=True)
    except (MemoryError, ImportError, OSError):
        # Where memory ran out there may be none for what makes words look well.
        sys.stderr.write(f"{word}{safe(failure.message)}\n")


def _end(failure: Failure) -> None:
    tell(failure, as_json=_JSON_OWED.get())
    raise typer.Exit(failure.exit_code)


@contextmanager
def _to_stdout() -> Iterator[None]:
    """Names what could not be written where the system does not."""
    try:
        yield
    except OSError as error:
        _abandon_stdout()
        error.filename = error.filename or "standard output"
        raise


def _abandon_stdout() -> None:
    """Nobody takes what is left in stdout's buffer; without this Python would try once more when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def document_or(as_json: bool, document: Mapping[str, Any], show: Callable[[], None]) -> None:
    """Prints a result as JSON where that was asked for, else for people."""
    if as_json:
        show_json(document)
    else:
        show()
