"""The one place that prints: results on stdout, talk on stderr, for people or as JSON."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import typer

from mimi_edge.errors import MimiEdgeError
from mimi_edge.parts import install_line, library_of
from mimi_edge.texts import json_text

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

P = ParamSpec("P")
R = TypeVar("R")

FAILED = MimiEdgeError.exit_code
INTERRUPTED = 130
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
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) != "\n"}
"""A file from elsewhere may hold names that would steer the terminal."""


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
    text = json_text(document)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json_text(document, ascii_only=True)
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except OSError:
        _abandon_stdout()
        raise


def show_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Prints a result for people; columns after the first hold figures."""
    table = _table(title)
    for index, (column, width) in enumerate(zip(columns, _least_widths(columns, rows), strict=True)):
        table.add_column(_plain(column), justify="left" if index == 0 else "right", min_width=width, overflow="fold")
    for row in rows:
        table.add_row(*(_plain(cell) for cell in row))
    _print_table(table)


def _least_widths(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> list[int | None]:
    """Of each column, in letters: figures are never broken, and a name that one may have to type only without room."""
    longest = [max((len(str(row[index])) for row in rows), default=0) for index in range(len(columns))]
    widths = [length if length <= SHORT else None for length in longest]
    others = sum((width or NARROW) + MARGIN for width in widths[1:])
    if longest and longest[0] + MARGIN + others <= TERMINAL:
        widths[0] = longest[0]
    return widths


def show_facts(title: str, facts: Mapping[str, object]) -> None:
    """Prints names and values for people."""
    table = _table(title, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(_plain(name), _plain(value))
    _print_table(table)


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
    console.print(Padding(Text(title, "bold"), (0, 0, 0, 1)), width=width)
    for entry in entries:
        head = Text(entry.head + ": ", entry.style)
        console.print(Padding(head.append_text(_plain(entry.text)), (1, 0, 0, 2)), width=width)
        if entry.line is not None:
            console.print(Text.assemble("      ", _plain(entry.line)), soft_wrap=True)


def _table(title: str, *, show_header: bool = True) -> Table:
    from rich import box
    from rich.table import Table

    return Table(
        title=_plain(title),
        title_justify="left",
        title_style="bold",
        show_header=show_header,
        header_style="bold",
        box=box.SIMPLE_HEAD,
        collapse_padding=True,
    )


def _print_table(table: Table) -> None:
    """To a terminal as wide as that; elsewhere as wide as it is, for a path that is broken is none."""
    from rich.console import Console

    console = Console(highlight=False)
    if console.is_terminal:
        console.print(table)
        return
    wide = console.options.update(max_width=WIDEST)
    width = max(console.width, NARROWEST, console.measure(table, options=wide).maximum)
    Console(highlight=False, width=width).print(table)


def _plain(value: object) -> Text:
    """Text that means what it says: no markup, and nothing that steers a terminal."""
    from rich.text import Text

    return Text(str(value).translate(_CONTROLS))


def explained(command: Callable[P, R]) -> Callable[P, R]:
    """Turns what can go wrong into a message on stderr and an exit code."""

    @wraps(command)
    def explaining(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except MimiEdgeError as error:
            fail(str(error), error.exit_code)
        except ImportError as error:
            fail(_missing_part(error), FAILED)
        except BrokenPipeError:
            _abandon_stdout()
            raise typer.Exit(FAILED) from None
        except OSError as error:
            fail(_in_words(error), FAILED)
        except (MemoryError, RuntimeError) as error:
            if not _lacks_memory(error):
                raise
            fail("There is not enough memory for this. Try a smaller --batch-size, or fewer or smaller images.", FAILED)
        except KeyboardInterrupt:
            fail("Interrupted.", INTERRUPTED)
        raise AssertionError  # fail always raises

    return explaining


def fail(message: str, exit_code: int) -> None:
    """Says what went wrong and ends the process."""
    from rich.text import Text

    word = "Stopped: " if exit_code == INTERRUPTED else "Error: "
    talk_console().print(Text.assemble((word, "bold red"), _plain(message)), soft_wrap=True)
    raise typer.Exit(exit_code)


def _abandon_stdout() -> None:
    """Nobody takes what is left in stdout's buffer; without this Python would try once more when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _in_words(error: OSError) -> str:
    """What the system says and of which file; where it is about copying, of the copy."""
    place = error.filename2 or error.filename
    return f"{error.strerror or error}{f': {place}' if place else ''}"


def _lacks_memory(error: Exception) -> bool:
    """Whether this is how Python, or torch on a CPU or GPU, says that memory ran out."""
    said = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in said or "can't allocate memory" in said


def _missing_part(error: ImportError) -> str:
    """Names the line that installs what is missing; a missing module of our own is a broken installation."""
    from mimi_edge.numpy_versions import numpy_misfit

    if (misfit := numpy_misfit(error)) is not None:
        return f"{misfit.text} Install both at once, so that they fit: {misfit.line}"
    module = (error.name or "").split(".")[0]
    library = library_of(module)
    what = install_line(None if library is None else library.part)
    if not isinstance(error, ModuleNotFoundError):
        return f"{module or 'A library'} is installed and cannot be loaded: {error}. Install it again: {what}"
    return f"This needs {module or error}, which is not installed here. Install it: {what}"


def document_or(as_json: bool, document: Mapping[str, Any], show: Callable[[], None]) -> None:
    """Prints a result as JSON where that was asked for, else for people."""
    if as_json:
        show_json(document)
    else:
        show()
