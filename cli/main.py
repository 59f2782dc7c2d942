"""Where `mimi-edge` begins: as little as can be, so that Ctrl-C is answered in one word from the first moment."""

from __future__ import annotations

import sys

from mimi_edge.cli.interrupts import ending_signals_interrupt, no_more_signals

INTERRUPTED = 130


def main() -> None:
    """Runs the command line."""
    try:
        try:
            ending_signals_interrupt()
            _print_whatever_it_is()
            from mimi_edge.cli.app import app

            app()
        finally:
            no_more_signals()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _print_whatever_it_is() -> None:
    """A class may be called what the terminal's encoding cannot say; it is shown as an escape then."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
