"""Tasks ready to answer, one after another, from a package, a graph, a folder of adapters, engines, or a run."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mimi_edge.choices import Backend
from mimi_edge.errors import ArtifactError, ConfigError
from mimi_edge.events import Listener, silent
from mimi_edge.export import lone_tasks
from mimi_edge.export.graphs import LOGITS, GraphInfo
from mimi_edge.export.open_packages import Package, opened_graph, opened_package
from mimi_edge.images.preprocessing import Preprocessing
from mimi_edge.tasks.stores import Floats

if TYPE_CHECKING:
    from mimi_edge.export.engines.running.loaded import Answer

ARCHIVE_SUFFIX = ".mimi"
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
        served: loads and gives them, one after another, once; what the one before needed alone is closed. Until the
            last one is loaded the package stays as it is: who wants to change it waits.
    """

    tasks: tuple[str, ...]
    served: Callable[[], Iterator[ServedTask]]


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
    if engine is not None or backend in ENGINE_BACKENDS:
        return _engines(source, tasks, backend or Backend.TRT, engine, trust, listener)
    if lone_tasks.is_one(source):
        return _lone_task(source, tasks, backend, threads, listener)
    backend = backend or Backend.ORT_CPU
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


class _Held:
    """A package that stays as it is from the first look until all that is served is loaded.

    It is let go of then, or when nobody can ask for it any more.
    """

    def __init__(self, folder: Path, tasks: Sequence[str] | None, *, graphs: bool) -> None:
        self._stack = ExitStack()
        self.package: Package = self._stack.enter_context(opened_package(folder, tasks, graphs=graphs))
        self.tasks = list(self.package.tasks if tasks is None else tasks)

    def let_go(self) -> None:
        """Everything is loaded."""
        self._stack.close()

    @contextmanager
    def unless_refused(self) -> Iterator[None]:
        """Lets go where the block finds that nothing can be served."""
        try:
            yield
        except BaseException:
            self.let_go()
            raise

    def __enter__(self) -> Package:
        return self.package

    def __exit__(self, *_: object) -> None:
        self.let_go()


def _package(folder: Path, tasks: Sequence[str] | None, backend: Backend, threads: int | None) -> Serving:
    held = _Held(folder, tasks, graphs=False)

    def served() -> Iterator[ServedTask]:
        with held as package:
            # One task at a time: several sessions would hold several copies of the backbone.
            for left, name in zip(range(len(held.tasks) - 1, -1, -1), held.tasks, strict=True):
                task = _of_graph(package.task(name).graph, backend, threads)
                if not left:
                    held.let_go()
                yield task

    return Serving(tuple(held.tasks), served)


def _graph(path: Path, tasks: Sequence[str] | None, backend: Backend, threads: int | None) -> Serving:
    if tasks is not None:
        raise ConfigError(f"{path} is one graph with its own task; give a package to choose among tasks.")
    with opened_graph(path):
        task = _of_one_file(path, backend, threads) or _of_graph(path, backend, threads)
    return Serving((task.name,), lambda: iter([task]))


def _of_one_file(path: Path, backend: Backend, threads: int | None) -> ServedTask | None:
    """The task of a one-file export; None of a graph with its weights beside it."""
    from mimi_edge.export.one_file import open_embedded

    whole = open_embedded(path, threads=threads, backend=backend)
    return (
        None if whole is None else ServedTask(whole.info.task, whole.info.classes, whole.info.preprocessing, whole.run)
    )


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


def _lone_task(
    source: Path, tasks: Sequence[str] | None, backend: Backend | None, threads: int | None, listener: Listener
) -> Serving:
    """A task file that belongs to a package is that package's task; any other is run by torch."""
    folder = lone_tasks.package_beside(source)
    if folder is not None and backend is not Backend.TORCH:
        return _package(folder, _only(source, source.stem, tasks), backend or Backend.ORT_CPU, threads)
    given = lone_tasks.with_torch(source, backend)
    header = given.task.header
    _only(source, header.name, tasks)

    def served() -> Iterator[ServedTask]:
        run = lone_tasks.torch_logits(given, threads, listener)
        yield ServedTask(header.name, header.classes, header.preprocessing, run)

    return Serving((header.name,), served)


def _only(source: Path, name: str, tasks: Sequence[str] | None) -> list[str]:
    """The one task of a source that has one.

    Raises:
        ConfigError: another was asked for.
    """
    if other := [task for task in tasks or () if task != name]:
        raise ConfigError(f"{source} is the task {name!r} alone; got --task {', '.join(other)}. Leave --task out.")
    return [name]


def _logits(answer: Answer, task: str, images: Floats) -> Floats:
    return answer(task, images)[LOGITS]


def _engines(
    folder: Path, tasks: Sequence[str] | None, backend: Backend, engine: Path | None, trust: bool, listener: Listener
) -> Serving:
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no package. Engines answer for a package's tasks: give its folder.")
    from mimi_edge.export.engines.running.loaded import engines_for, opened

    held = _Held(folder, tasks, graphs=True)
    groups = {engine: held.tasks} if engine is not None else {}
    if engine is None:
        with held.unless_refused():
            found = engines_for(held.package, held.tasks, backend, listener=listener)
        for name, one in found.items():
            groups.setdefault(one.path, []).append(name)

    def served() -> Iterator[ServedTask]:
        with held as package:
            for left, (path, together) in zip(range(len(groups) - 1, -1, -1), groups.items(), strict=True):
                with opened(path, package, together, trust=trust, listener=listener) as answer:
                    headers = {name: package.task_file(name).task.header for name in together}
                    if not left:
                        held.let_go()
                    for name, header in headers.items():
                        yield ServedTask(name, header.classes, header.preprocessing, partial(_logits, answer, name))

    return Serving(tuple(name for together in groups.values() for name in together), served)
