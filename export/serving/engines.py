"""Engines: those on a package's shelf that answer for its tasks, or one that was named."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from mimi_edge.errors import ConfigError
from mimi_edge.export.engines.running.loaded import Answer, engines_for, opened
from mimi_edge.export.graphs import LOGITS
from mimi_edge.export.serving.served import Asked, HeldPackage, ServedTask, Serving
from mimi_edge.runtimes import ENGINE_BACKENDS
from mimi_edge.tasks.stores import Floats


def of_package(folder: Path, asked: Asked) -> Serving:
    """The tasks of a package, by as few engines as answer for them.

    Raises:
        ConfigError: it is no package, or has no engine for a task.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no package. Engines answer for a package's tasks: give its folder.")
    held = HeldPackage(folder, asked.tasks, graphs=True)
    groups = {} if asked.engine is None else {asked.engine: held.tasks}
    if asked.engine is None:
        with held.unless_refused():
            backend = asked.backend or ENGINE_BACKENDS[0]
            found = engines_for(held.package, held.tasks, backend, listener=asked.listener)
        for name, one in found.items():
            groups.setdefault(one.path, []).append(name)

    def served() -> Iterator[ServedTask]:
        with held as package:
            for left, (path, together) in zip(range(len(groups) - 1, -1, -1), groups.items(), strict=True):
                with opened(path, package, together, trust=asked.trust, listener=asked.listener) as answer:
                    headers = {name: package.task_file(name).task.header for name in together}
                    if not left:
                        held.let_go()
                    for name, header in headers.items():
                        yield ServedTask(name, header.classes, header.preprocessing, partial(_logits, answer, name))

    return Serving(tuple(name for together in groups.values() for name in together), served)


def _logits(answer: Answer, task: str, images: Floats) -> Floats:
    return answer(task, images)[LOGITS]
