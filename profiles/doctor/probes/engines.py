"""Loads TensorRT or TensorRT for RTX, and makes what building and running begin with."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from mimi_edge.choices import Backend
from mimi_edge.export.engines.tensorrt.libraries import installed_modules
from mimi_edge.runtimes import ENGINE_LIBRARIES


def bindings(name: str) -> Iterator[Mapping[str, Any]]:
    """Whether it is installed, in which versions, and whether it can be loaded.

    Args:
        name: of the backend, `trt` or `trt-rtx`.
    """
    backend = Backend(name)
    yield {"installed": installed(backend), "wheels": wheels(backend)}
    if not installed(backend):
        return
    from mimi_edge.export.engines.tensorrt.bindings import load_bindings

    yield {"version": load_bindings(backend).version}
    yield {"library": library_version(ENGINE_LIBRARIES[backend].shared_library)}


def builder(name: str) -> Iterator[Mapping[str, Any]]:
    """Whether a builder can be made."""
    backend = Backend(name)
    if installed(backend):
        from mimi_edge.export.engines.tensorrt.bindings import load_bindings

        loaded = load_bindings(backend)
        keep = loaded.builder()
        yield {"made": keep is not None, "capabilities": list(loaded.capabilities())}


def runtime(name: str) -> Iterator[Mapping[str, Any]]:
    """Whether a runtime can be made."""
    backend = Backend(name)
    if installed(backend):
        from mimi_edge.export.engines.tensorrt.bindings import load_bindings

        yield {"made": load_bindings(backend).runtime() is not None}


def installed(backend: Backend) -> bool:
    """Whether there is a Python module of it."""
    return bool(installed_modules(backend))


def wheels(backend: Backend) -> dict[str, str]:
    """Versions of its wheels by what they hold, `bindings` and `libs`, as pip knows them."""
    found: dict[str, str] = {}
    every = [library.wheel for library in ENGINE_LIBRARIES.values()]
    for one in distributions():
        name = str(one.metadata["Name"] or "").lower().replace("_", "-")
        kind = name.rpartition("-")[2]
        # The longest beginning is the one that counts: tensorrt-rtx begins with tensorrt.
        wheel = max((begin for begin in every if name.startswith(begin)), key=len, default=None)
        if wheel == ENGINE_LIBRARIES[backend].wheel and kind in ("bindings", "libs"):
            found[kind] = one.version
    return found


def library_version(name: str, maps: Path = Path("/proc/self/maps")) -> str | None:
    """Version of a library of TensorRT that this process has loaded, as the library itself tells it."""
    try:
        lines = maps.read_text().splitlines()
    except OSError:  # not Linux
        return None
    path = next((line[line.find("/") :] for line in lines if f"/{name}" in line), None)
    if path is None:
        return None
    number = int(ctypes.CDLL(path).getInferLibVersion())
    return f"{number // 10000}.{number // 100 % 100}.{number % 100}"
