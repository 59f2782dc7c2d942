"""Tasks ready to answer, one after another, from a package, a graph, a folder of adapters or engines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mimi_edge.choices import Backend
from mimi_edge.errors import ArtifactError, ConfigError
from mimi_edge.events import Listener, silent
from mimi_edge.export.graphs import LOGITS, GraphInfo
from mimi_edge.export.packages import read_package
from mimi_edge.images.preprocessing import Preprocessing
from mimi_edge.tasks.files import read_task
from mimi_edge.tasks.stores import Floats

if TYPE_CHECKING:
    from mimi_edge.export.engines.serving import Answer

ENGINE_BACKENDS = (Backend.TRT, Backend.TRT_RTX)
ONNX_BACKENDS = (Backend.ORT_CPU, Backend.ORT_CUDA, Backend.ORT_TRT)


@dataclass(frozen=True)
class ServedTask:
    """A task that is loaded and ready.

    Attributes:
        name: of it.
        classes: in the order of the logits.
        preprocessing: what happens to an image before.
        run: normalised images, float32 [B, 3, S, S] -> logits, float32 [B, C].
    """

    name: str
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    run: Callable[[Floats], Floats]


@dataclass(frozen=True)
class Serving:
    """What can be asked of a source.

    Attributes:
        tasks: names, in the order in which they are served.
        served: loads and gives them, one after another; what the one before needed alone is closed.
    """

    tasks: tuple[str, ...]
    served: Callable[[], Iterator[ServedTask]]


def serving(
    source: Path,
    tasks: Sequence[str] | None = None,
    *,
    backend: Backend = Backend.ORT_CPU,
    engine: Path | None = None,
    trust: bool = False,
    threads: int | None = None,
    listener: Listener = silent,
) -> Serving:
    """Finds the tasks of a source; they are loaded when they are asked for.

    Args:
        source: a package, a folder of ONNX Runtime adapters, or one merged `.onnx` graph.
        tasks: names of those wanted; None is all.
        backend: what runs them.
        engine: an engine to use with the package's tasks instead of one from its shelf.
        trust: take it even if it is on no shelf.
        threads: of ONNX Runtime.
        listener: hears what cannot be used.

    Raises:
        ArtifactError: the source is damaged.
        ConfigError: there is no such task, or the source and the backend do not go together.
    """
    if engine is not None or backend in ENGINE_BACKENDS:
        return _engines(source, tasks, backend, engine, trust, listener)
    if backend not in ONNX_BACKENDS:
        raise ConfigError(f"Backend {backend.value} cannot serve {source}; choose {_names(ONNX_BACKENDS)} or trt.")
    if not source.is_dir():
        return _graph(source, tasks, backend, threads)
    from mimi_edge.export import ort_adapters

    if (source / ort_adapters.MANIFEST).is_file():
        return _adapters(source, tasks, backend, threads)
    return _package(source, tasks, backend, threads)


def _names(backends: Sequence[Backend]) -> str:
    return ", ".join(one.value for one in backends)


def _package(folder: Path, tasks: Sequence[str] | None, backend: Backend, threads: int | None) -> Serving:
    package = read_package(folder)
    chosen = [package.task(name) for name in (package.tasks if tasks is None else tasks)]

    def served() -> Iterator[ServedTask]:
        # One task at a time: several sessions would hold several copies of the backbone.
        for task in chosen:
            yield _of_graph(task.graph, backend, threads)

    return Serving(tuple(task.name for task in chosen), served)


def _graph(path: Path, tasks: Sequence[str] | None, backend: Backend, threads: int | None) -> Serving:
    if tasks is not None:
        raise ConfigError(f"{path} is one graph with its own task; give a package to choose among tasks.")
    task = _of_graph(path, backend, threads)
    return Serving((task.name,), lambda: iter([task]))


def _of_graph(path: Path, backend: Backend, threads: int | None) -> ServedTask:
    from mimi_edge.export.onnx_runtime import open_graph

    model = open_graph(path, threads=threads, backend=backend)
    name, classes = _task_of(model.info, path)
    return ServedTask(name, classes, model.info.preprocessing, model.run)


def _task_of(info: GraphInfo, path: Path) -> tuple[str, tuple[str, ...]]:
    if info.task is None:
        raise ArtifactError(f"{path} is a bare backbone without a task; merge one: mimi-edge export")
    return info.task.name, info.task.classes


def _adapters(folder: Path, tasks: Sequence[str] | None, backend: Backend, threads: int | None) -> Serving:
    from mimi_edge.export.ort_adapters import open_ort_adapters

    model = open_ort_adapters(folder, backend=backend, threads=threads)
    chosen = [model.adapters.task(name) for name in (model.adapters.tasks if tasks is None else tasks)]

    def served() -> Iterator[ServedTask]:
        for task in chosen:
            yield ServedTask(task.name, task.classes, task.preprocessing, partial(model.run, task.name))

    return Serving(tuple(task.name for task in chosen), served)


def _logits(answer: Answer, task: str, images: Floats) -> Floats:
    return answer(task, images)[LOGITS]


def _engines(
    folder: Path, tasks: Sequence[str] | None, backend: Backend, engine: Path | None, trust: bool, listener: Listener
) -> Serving:
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no package. Engines answer for a package's tasks: give its folder.")
    from mimi_edge.export.engines.serving import engines_for, opened

    package = read_package(folder)
    names = list(package.tasks) if tasks is None else [package.task(name).name for name in tasks]
    groups = {engine: names} if engine is not None else {}
    if engine is None:
        for name, one in engines_for(package, names, backend, listener=listener).items():
            groups.setdefault(one.path, []).append(name)

    def served() -> Iterator[ServedTask]:
        for path, together in groups.items():
            with opened(path, package, together, trust=trust, listener=listener) as answer:
                for name in together:
                    header = read_task(package.task(name).task_file).header
                    yield ServedTask(name, header.classes, header.preprocessing, partial(_logits, answer, name))

    return Serving(tuple(name for together in groups.values() for name in together), served)
