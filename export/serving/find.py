"""Tasks ready to answer, one after another, from a package, a graph, a folder of adapters, engines, or a run."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from mimi_edge.choices import Backend
from mimi_edge.errors import ConfigError
from mimi_edge.events import Listener, silent
from mimi_edge.export.serving import graphs, lone_tasks
from mimi_edge.export.serving.served import Asked, Serving
from mimi_edge.runtimes import ENGINE_BACKENDS, GRAPH_BACKENDS, names

ARCHIVE_SUFFIX = ".mimi"


def serving(
    source: Path,
    tasks: Sequence[str] | None = None,
    *,
    backend: Backend | None = None,
    engine: Path | None = None,
    trust: bool = False,
    threads: int | None = None,
    listener: Listener = silent,
) -> Serving:
    """Finds the tasks of a source; they are loaded when they are asked for.

    Args:
        source: a package, a folder of ONNX Runtime adapters, one merged `.onnx` graph, a run folder, or a task file.
        tasks: names of those wanted; None is all.
        backend: what runs them; None is ONNX Runtime on the CPU, or torch for a run and a task file by itself.
        engine: an engine to use with the package's tasks instead of one from its shelf.
        trust: take it even if it is on no shelf.
        threads: of ONNX Runtime.
        listener: hears what cannot be used.

    Raises:
        ArtifactError: the source is damaged.
        ConfigError: there is no such task, or the source and the backend do not go together.
        MimiEdgeError: the source is a run or a task file by itself, and torch is not installed.
    """
    if source.suffix == ARCHIVE_SUFFIX and source.is_file():
        raise ConfigError(
            f"{source} is an archive. Install it first: mimi-edge install-task {shlex.quote(str(source))} package; "
            "then give the package."
        )
    asked = Asked(tasks, backend, engine, trust, threads, listener)
    if engine is not None or backend in ENGINE_BACKENDS:
        from mimi_edge.export.serving import engines

        return engines.of_package(source, asked)
    if lone_tasks.is_one(source):
        return lone_tasks.of_task(source, asked)
    if asked.graph_backend not in GRAPH_BACKENDS:
        choices = names((*GRAPH_BACKENDS, ENGINE_BACKENDS[0]))
        raise ConfigError(f"Backend {asked.graph_backend.value} cannot serve {source}; choose {choices}.")
    if not source.is_dir():
        return graphs.of_file(source, asked)
    from mimi_edge.export.serving import adapters

    return adapters.of_folder(source, asked) if adapters.is_one(source) else graphs.of_package(source, asked)
