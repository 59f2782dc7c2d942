"""Folders of ONNX Runtime adapters: one graph, and a small file a task."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from mimi_edge.export.ort_adapters import MANIFEST, open_ort_adapters
from mimi_edge.export.serving.served import Asked, ServedTask, Serving


def is_one(source: Path) -> bool:
    """Whether a folder holds adapters."""
    return (source / MANIFEST).is_file()


def of_folder(folder: Path, asked: Asked) -> Serving:
    """Its tasks; a switch of tasks is a switch of adapters."""
    model = open_ort_adapters(folder, backend=asked.graph_backend, threads=asked.threads)
    chosen = [model.adapters.task(name) for name in (model.adapters.tasks if asked.tasks is None else asked.tasks)]

    def served() -> Iterator[ServedTask]:
        for task in chosen:
            yield ServedTask(task.name, task.classes, task.preprocessing, partial(model.run, task.name))

    return Serving(tuple(task.name for task in chosen), served)
