"""Where `mimi-edge` begins: as little as can be, so that Ctrl-C is answered in one word from the first moment."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs the command line."""
    try:
        from mimi_edge.cli.stopping import terminating_interrupts

        terminating_interrupts()
        _print_whatever_it_is()
        from mimi_edge.cli.app import app

        app()
    except KeyboardInterrupt:
        sys.exit(130)


def _print_whatever_it_is() -> None:
    """A class may be called what the terminal's encoding cannot say; it is shown as an escape then."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
