"""mimi-edge: many vision tasks on one small device, one small file a task.

From Python: `Predictor`, `train`, `export`, `merge` and `profile`; nothing is loaded before it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mimi_edge.version import __version__ as __version__

if TYPE_CHECKING:
    from mimi_edge.errors import MimiEdgeError
    from mimi_edge.export.from_python import export, merge
    from mimi_edge.export.predictor import Answer, Predictor
    from mimi_edge.profiles.from_python import profile
    from mimi_edge.training.from_python import train

__all__ = ["Answer", "MimiEdgeError", "Predictor", "export", "merge", "profile", "train"]

_HOMES = {
    "Answer": "mimi_edge.export.predictor",
    "MimiEdgeError": "mimi_edge.errors",
    "Predictor": "mimi_edge.export.predictor",
    "merge": "mimi_edge.export.from_python",
    "profile": "mimi_edge.profiles.from_python",
    "train": "mimi_edge.training.from_python",
}
"""Where each name lives. `export` is not here: the room of that name is what can be called."""


def __getattr__(name: str) -> Any:
    """Loads what Python asks for, when it is asked for: the command line and small devices load none of it."""
    from importlib import import_module

    if name == "export":
        return import_module("mimi_edge.export")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """What editors and interpreters offer."""
    return sorted({*globals(), *__all__})
