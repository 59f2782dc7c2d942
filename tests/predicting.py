"""The answers about a few images, all at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mimi_edge.export.prediction import Prediction, predictions
from mimi_edge.export.serving.find import serving


def predict(
    source: Path,
    image_paths: Sequence[Path],
    tasks: Sequence[str] | None = None,
    *,
    threads: int | None = None,
    **how: Any,
) -> list[Prediction]:
    """What a source's tasks, by default all of them, say about images; the rest goes to `predictions`."""
    return list(predictions(serving(source, tasks, threads=threads), image_paths, **how))
