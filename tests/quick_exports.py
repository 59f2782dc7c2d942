"""Makes exports in a test process quicker: torch compiles its whole library of operators anew for each."""

from __future__ import annotations

from functools import cache, wraps
from importlib import import_module


@cache
def keep_operators() -> None:
    """Lets torch's exporter compile the library once a process: a second or two less for every later export.

    The library does not depend on what is exported, and `export_backbone` adds no operators of its own to it. A torch
    whose exporter looks otherwise stays as it is.
    """
    try:
        registry = import_module("torch.onnx._internal.exporter._registration").ONNXRegistry
        from_torchlib = registry.from_torchlib
    except (ImportError, AttributeError):
        return
    registry.from_torchlib = staticmethod(wraps(from_torchlib)(cache(from_torchlib)))
