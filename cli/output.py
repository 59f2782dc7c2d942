"""The one place that prints: results on stdout, talk on stderr, for people or as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mimi_edge.errors import MimiEdgeError

P = ParamSpec("P")
R = TypeVar("R")

INTERRUPTED = 130
NARROWEST = 100
"""Columns that a table gets where nobody looks at a terminal."""


def talk_console() -> Console:
    """Where talk goes: stderr."""
    return Console(stderr=True, highlight=False)


def say(text: str) -> None:
    """Says a sentence to whoever watches; it is no part of the result."""
    talk_console().print(Text(text), soft_wrap=True)


def show_json(document: object) -> None:
    """Prints a result for programs: JSON, and nothing else, on stdout."""
    sys.stdout.write(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def show_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Prints a result for people; columns after the first hold figures."""
    table = Table(title=Text(title), title_justify="left", title_style="bold", header_style="bold")
    for index, column in enumerate(columns):
        table.add_column(Text(column), justify="left" if index == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    console = Console(highlight=False)
    console.print(table, width=None if console.is_terminal else max(console.width, NARROWEST))


def show_facts(title: str, facts: Mapping[str, object]) -> None:
    """Prints names and values for people."""
    table = Table(title=Text(title), title_justify="left", title_style="bold", show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(Text(name), Text(str(value)))
    console = Console(highlight=False)
    console.print(table, width=None if console.is_terminal else max(console.width, NARROWEST))


def explained(command: Callable[P, R]) -> Callable[P, R]:
    """Turns what can go wrong into a message on stderr and an exit code."""

    @wraps(command)
    def explaining(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except MimiEdgeError as error:
            fail(str(error), error.exit_code)
        except ModuleNotFoundError as error:
            fail(*_missing_part(error))
        except OSError as error:
            fail(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}", MimiEdgeError.exit_code)
        except KeyboardInterrupt:
            fail("Interrupted.", INTERRUPTED)
        raise AssertionError  # fail always raises

    return explaining


def fail(message: str, exit_code: int) -> None:
    """Says what went wrong and ends the process."""
    console = talk_console()
    console.print(
        Text.assemble(("Stopped: " if exit_code == INTERRUPTED else "Error: ", "bold red"), message), soft_wrap=True
    )
    raise typer.Exit(exit_code)


_PARTS: Mapping[str, str] = {
    "torch": "train",
    "torchvision": "train",
    "timm": "train",
    "onnxscript": "train",
    "matplotlib": "train",
    "onnxruntime": "cpu",
}


def _missing_part(error: ModuleNotFoundError) -> tuple[str, int]:
    """Names the line that installs what is missing; a missing module of our own is a broken installation."""
    module = (error.name or "").split(".")[0]
    part = _PARTS.get(module)
    what = f'pip install "mimi-edge[{part}]"' if part else "pip install --force-reinstall mimi-edge"
    return f"This needs {module or error}, which is not installed here. Install it: {what}", MimiEdgeError.exit_code


def document_or(as_json: bool, document: Mapping[str, Any], show: Callable[[], None]) -> None:
    """Prints a result as JSON where that was asked for, else for people."""
    if as_json:
        show_json(document)
    else:
        show()
