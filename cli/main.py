"""Where `mimi-edge` begins: as little as can be, so that Ctrl-C is answered in one word from the first moment."""

from __future__ import annotations

import sys
from collections.abc import Callable

from mimi_edge.cli.interrupts import ending_signals_interrupt, no_more_signals

INTERRUPTED = 130
INTERRUPTED_JSON = '{"error": {"kind": "interrupted", "exit_code": 130, "message": "Interrupted."}}'
NO_MEMORY_JSON = '{"error": {"kind": "memory", "exit_code": 1, "message": "There is not enough memory to begin."}}'
NO_ROOM_TO_SAY_SO = "without setting an exception"
"""Of a SystemError: what CPython raises where there was no memory left for a MemoryError."""


def main() -> None:
    """Runs the command line; under `--json` whatever ends it before its time is JSON on stdout, too."""
    as_json = "--json" in sys.argv[1:]
    try:
        try:
            ending_signals_interrupt()
            _print_whatever_it_is()
            from mimi_edge.cli.app import app

            if as_json:
                sys.exit(_code_of(app))
            app()
        finally:
            no_more_signals()
    except (MemoryError, SystemError) as error:
        if isinstance(error, SystemError) and NO_ROOM_TO_SAY_SO not in str(error):
            raise
        if as_json:
            print(NO_MEMORY_JSON, flush=True)  # noqa: T201  (nothing of ours could be loaded)
        sys.exit("Error: There is not enough memory to begin.")
    except KeyboardInterrupt:
        if as_json:
            print(INTERRUPTED_JSON, flush=True)  # noqa: T201  (nothing of ours may be loaded yet)
        sys.exit(INTERRUPTED)


def _code_of(app: Callable[..., object]) -> int:
    """Runs the command; Typer's complaints about how it was called become JSON as well as words."""
    try:
        code = app(standalone_mode=False)
    except Exception as error:
        # Typer carries Click's exceptions under names of its own, which change; what they can do does not.
        if not hasattr(error, "format_message") or not hasattr(error, "exit_code"):
            raise
        from mimi_edge.cli.output import usage_failed

        usage_failed(str(error.format_message()), int(error.exit_code))
        return int(error.exit_code)
    return code if isinstance(code, int) else 0


def _print_whatever_it_is() -> None:
    """A class may be called what the terminal's encoding cannot say; it is shown as an escape then."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
