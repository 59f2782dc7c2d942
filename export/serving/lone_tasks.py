"""Runs and task files by themselves: answered by torch where it is, for want of a graph."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from mimi_edge.choices import Backend
from mimi_edge.errors import ConfigError, MimiEdgeError
from mimi_edge.events import Listener, Note
from mimi_edge.export.given import GivenTask, given_task
from mimi_edge.export.manifest import MANIFEST, read_manifest
from mimi_edge.export.serving import graphs
from mimi_edge.export.serving.served import Asked, ServedTask, Serving
from mimi_edge.parts import TRAIN, install_line
from mimi_edge.tasks.files import SUFFIX
from mimi_edge.tasks.stores import Floats
from mimi_edge.training.config import CONFIG_FILE, PRETRAINED


def is_one(source: Path) -> bool:
    """Whether a path is a run folder or a task file."""
    if source.is_dir():
        return (source / CONFIG_FILE).is_file() and not (source / MANIFEST).is_file()
    return source.suffix == SUFFIX


def of_task(source: Path, asked: Asked) -> Serving:
    """A task file that belongs to a package is that package's task; any other is run by torch.

    Raises:
        ConfigError: another task was asked for, or a backend that runs no models.
        MimiEdgeError: torch is not installed.
    """
    folder = _package_beside(source)
    if folder is not None and asked.backend is not Backend.TORCH:
        return graphs.of_package(folder, replace(asked, tasks=_only(source, source.stem, asked.tasks)))
    given = _with_torch(source, asked.backend)
    header = given.task.header
    _only(source, header.name, asked.tasks)

    def served() -> Iterator[ServedTask]:
        run = _torch_logits(given, asked.threads, asked.listener)
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


def _package_beside(source: Path) -> Path | None:
    """The package that a task file lies in, as one of its files; None where it is in none."""
    folder = source.parent
    if source.is_dir() or not (folder / MANIFEST).is_file():
        return None
    entry = read_manifest(folder).tasks.get(source.stem)
    return folder if entry is not None and entry.task == source.name else None


def _with_torch(source: Path, backend: Backend | None) -> GivenTask:
    """The task of a run folder or of a file, once it is sure that torch can answer for it.

    Raises:
        ConfigError: it is not finished, or another backend was asked for.
        MimiEdgeError: torch is not installed; the message says what else can be done.
    """
    given = given_task(source)
    export = f"mimi-edge export {shlex.quote(str(source))}"
    if backend not in (None, Backend.TORCH):
        raise ConfigError(
            f"{source} has no graph that {backend.value if backend else ''} could run. Put it into a package, "
            f"{export}, and give that; or leave --backend out, and torch answers."
        )
    if find_spec("torch") is None:
        raise MimiEdgeError(
            f"{source} is a task without a graph, and torch, which could answer for it, is not installed. Add it to "
            f"the package of its backbone, {export} --output package, and give that; or install torch: "
            f"{install_line(TRAIN)}"
        )
    return given


def _torch_logits(given: GivenTask, threads: int | None, listener: Listener) -> Callable[[Floats], Floats]:
    """A function from normalised images [B, 3, H, W] to torch's logits [B, C].

    Raises:
        ArtifactError: the backbone that can be loaded is not the one that the task belongs to.
        MimiEdgeError: the backbone's weights are not to be had.
    """
    from mimi_edge.training.torch_answers import load_torch, torch_answer

    name, config = given.task.header.backbone.name, given.config
    listener(Note(f"{given.path} has no graph: torch answers, with the backbone {name}."))
    load_torch(threads)
    weights, seed = (PRETRAINED, 0) if config is None else (config.weights, config.seed)
    return torch_answer(name, weights, given.path, seed=seed)
