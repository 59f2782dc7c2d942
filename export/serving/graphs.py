"""Merged graphs, answered by ONNX Runtime: one by itself, or those of a package's tasks in turn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mimi_edge.errors import ArtifactError, ConfigError
from mimi_edge.export.graphs import GraphInfo
from mimi_edge.export.open_packages import opened_graph
from mimi_edge.export.serving.served import Asked, HeldPackage, ServedTask, Serving


def of_package(folder: Path, asked: Asked) -> Serving:
    """The tasks of a package, each by its own graph."""
    held = HeldPackage(folder, asked.tasks, graphs=False)

    def served() -> Iterator[ServedTask]:
        with held as package:
            # One task at a time: several sessions would hold several copies of the backbone.
            for left, name in zip(range(len(held.tasks) - 1, -1, -1), held.tasks, strict=True):
                task = _of_graph(package.task(name).graph, asked)
                if not left:
                    held.let_go()
                yield task

    return Serving(tuple(held.tasks), served)


def of_file(path: Path, asked: Asked) -> Serving:
    """One graph with its task in it, or a one-file export.

    Raises:
        ConfigError: tasks were named, and it has its own.
    """
    if asked.tasks is not None:
        raise ConfigError(f"{path} is one graph with its own task; give a package to choose among tasks.")
    with opened_graph(path):
        task = _of_one_file(path, asked) or _of_graph(path, asked)
    return Serving((task.name,), lambda: iter([task]))


def _of_one_file(path: Path, asked: Asked) -> ServedTask | None:
    """The task of a one-file export; None of a graph with its weights beside it."""
    from mimi_edge.export.one_file import open_embedded

    whole = open_embedded(path, threads=asked.threads, backend=asked.graph_backend)
    return (
        None if whole is None else ServedTask(whole.info.task, whole.info.classes, whole.info.preprocessing, whole.run)
    )


def _of_graph(path: Path, asked: Asked) -> ServedTask:
    from mimi_edge.export.onnx_runtime import open_graph

    model = open_graph(path, threads=asked.threads, backend=asked.graph_backend)
    name, classes = _task_of(model.info, path)
    return ServedTask(name, classes, model.info.preprocessing, model.run)


def _task_of(info: GraphInfo, path: Path) -> tuple[str, tuple[str, ...]]:
    if info.task is None:
        raise ArtifactError(f"{path} is a bare backbone without a task; merge one: mimi-edge export")
    return info.task.name, info.task.classes
