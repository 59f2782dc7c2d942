"""From a task file to something that runs: backbone graph, merge, packages."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    """A package that is also a function: `mimi_edge.export(run)` and `mimi_edge.export.packages` are both meant."""

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """Exports runs; see `mimi_edge.export.from_python.export`."""
        from mimi_edge.export.from_python import export

        return export(*arguments, **keywords)


sys.modules[__name__].__class__ = _Callable
