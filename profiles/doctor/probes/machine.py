"""The machine itself: processor, memory, folders, and the tools of a Jetson."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

TRIED_BYTES = 1_000_000
TOOLS = ("nvpmodel", "jetson_clocks", "tegrastats")


def machine() -> Iterator[Mapping[str, Any]]:
    """Python, system, processor and memory."""
    from mimi_edge.profiles.board.jetson import memory
    from mimi_edge.profiles.board.processor import cpu_model, usable_cores

    yield {"python": platform.python_version(), "executable": sys.executable}
    yield {"system": f"{platform.system()} {platform.release()}", "machine": platform.machine()}
    yield {"cpu": cpu_model(), "cores": usable_cores()}
    found = memory()
    yield {"memory_bytes": found.total_bytes, "available_bytes": found.available_bytes}


def cache() -> Iterator[Mapping[str, Any]]:
    """The folder of backbone graphs: whether it can be written, and how much room there is."""
    from mimi_edge.caches import default_cache

    yield from _folder(default_cache())


def working_folder() -> Iterator[Mapping[str, Any]]:
    """The folder that runs and packages go to unless told otherwise."""
    yield from _folder(Path.cwd())


def jetson() -> Iterator[Mapping[str, Any]]:
    """Whether this is one, and what is there to see and set its power."""
    from mimi_edge.profiles.board.jetson import is_jetson, jetson_state

    yield {"is_jetson": is_jetson()}
    if is_jetson():
        state = jetson_state()
        yield {"model": state.model, "l4t": state.l4t, "power_mode": state.power_mode, "fixed": state.clocks_fixed}
        yield {"tools": {name: shutil.which(name) for name in TOOLS}}


def power() -> Iterator[Mapping[str, Any]]:
    """How joules are measured here, or why they cannot be."""
    from mimi_edge.errors import MimiEdgeError
    from mimi_edge.profiles.board import jetson as a_jetson
    from mimi_edge.profiles.board.find_board import find_board
    from mimi_edge.profiles.board.jtop_meter import open_jtop

    found = find_board()
    yield {"kind": found.kind, "name": found.name}
    yield {"meter": found.meter and found.power_source, "why_not": found.no_power}
    if a_jetson.is_jetson():
        try:
            open_jtop().close()
            yield {"jtop": None}
        except MimiEdgeError as error:
            yield {"jtop": str(error)}


def _folder(folder: Path) -> Iterator[Mapping[str, Any]]:
    """Writes a file without a name, or one that is removed at once, into it or where it would be made."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    yield {"path": str(folder), "free_bytes": shutil.disk_usage(there).free, "exists": folder.exists()}
    try:
        with tempfile.TemporaryFile(dir=there) as tried:
            tried.write(os.urandom(TRIED_BYTES))
            tried.flush()
            os.fsync(tried.fileno())
        yield {"why_not": None}
    except OSError as error:
        yield {"why_not": f"{error.strerror or error}"}
