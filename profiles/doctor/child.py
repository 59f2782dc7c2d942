"""What runs in the other process: one step after the other, what is found said at once, for the next may end it."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from typing import Any, TextIO

from mimi_edge.texts import json_text

MARGIN_S = 15
"""After its limit the process ends itself, should whoever started it be gone."""
LONGEST_ERROR = 2000


def main() -> None:
    """Reads the steps from stdin: `{"limit_s": 60, "steps": [[module, function, [argument]]]}`; a line each on stdout.

    `{"begun": n}`, then any number of `{"facts": {}}`, then `{"done": n}` or `{"failed": n, "kind": "", "error": ""}`.
    """
    out = _own_stdout()
    asked = json.load(sys.stdin)
    _without_core_dump()
    for number, (module, function, arguments) in enumerate(asked["steps"]):
        _end_after(asked["limit_s"] + MARGIN_S)
        _say(out, {"begun": number})
        try:
            for facts in _looked(module, function, arguments):
                _say(out, {"facts": facts})
        except BaseException as error:  # noqa: BLE001  a library may raise SystemExit, or worse
            kind = "import" if isinstance(error, ImportError) else "error"
            _say(out, {"failed": number, "kind": kind, "error": _in_words(error)})
        else:
            _say(out, {"done": number})
    # Everything is said; what libraries do when a process ends can only fail or hang.
    os._exit(0)


def _looked(module: str, function: str, arguments: list[str]) -> Iterator[dict[str, Any]]:
    found: Iterator[dict[str, Any]] = getattr(import_module(module), function)(*arguments)
    return found


def _own_stdout() -> TextIO:
    """Keeps stdout for us: what libraries print, in Python or in C, goes to stderr."""
    own = os.dup(1)
    os.dup2(2, 1)
    return os.fdopen(own, "w", encoding="utf-8", newline="\n")


def _say(out: TextIO, message: dict[str, Any]) -> None:
    out.write(json_text(message, indent=None, default=str) + "\n")
    out.flush()


def _in_words(error: BaseException) -> str:
    from mimi_edge.errors import MimiEdgeError

    try:
        text = str(error)
    except Exception:  # noqa: BLE001  an error that cannot even be shown
        text = ""
    said = text if isinstance(error, MimiEdgeError) else f"{type(error).__name__}: {text}".removesuffix(": ")
    return said[:LONGEST_ERROR]


def _end_after(seconds: float) -> None:
    if hasattr(signal, "alarm"):
        signal.alarm(int(seconds) + 1)


def _without_core_dump() -> None:
    with suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
