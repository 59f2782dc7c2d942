"""What TensorRT's messages mean, and what to do about them."""

from __future__ import annotations

from mimi_edge.errors import EngineBuildError, MimiEdgeError
from mimi_edge.export.engines.logs import EngineLog


def explain(log: EngineLog, doing: str) -> MimiEdgeError:
    """The error to raise when TensorRT failed.

    Args:
        log: what it said.
        doing: what was being done, after "Cannot": "load shared.fp16.engine".
    """
    said = log.errors[-1] if log.errors else "nothing"
    return EngineBuildError(f"Cannot {doing}: TensorRT said: {said}")
