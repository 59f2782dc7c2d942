"""Finds TensorRT's Python module and the shared libraries that it needs."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from mimi_edge.choices import Backend
from mimi_edge.errors import MimiEdgeError

MODULES = {
    Backend.TRT: ("tensorrt", "tensorrt_bindings"),
    Backend.TRT_RTX: ("tensorrt_rtx", "tensorrt_rtx_bindings"),
}


def installed_backend() -> Backend:
    """TensorRT where it is installed, else TensorRT for RTX if that is, else TensorRT."""
    for backend, names in MODULES.items():
        if any(find_spec(name) for name in names):
            return backend
    return Backend.TRT


def import_bindings(backend: Backend) -> Any:
    """Imports TensorRT's Python module."""
    for name in MODULES[backend]:
        if find_spec(name):
            return import_module(name)
    raise MimiEdgeError("TensorRT is not installed.")
