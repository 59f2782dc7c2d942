"""PyTorch under measurement: the models that task files adapt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimi_edge.choices import Backend
from mimi_edge.images.image_size import ImageSize
from mimi_edge.profiles.runtimes import onnx_runtime
from mimi_edge.profiles.runtimes.artefact import TASK, Artefact, Opening, Run, Wanted
from mimi_edge.tasks.task import BackboneIdentity, Task

if TYPE_CHECKING:
    from mimi_edge.export.open_packages import Package

PRETRAINED = "pretrained"


def check(wanted: Wanted) -> None:
    """Whoever opens a model says what is missing: loading torch to find out takes seconds."""


def of_package(package: Package, tasks: Sequence[str], wanted: Wanted) -> Iterator[Artefact]:
    """The bare backbone, and the tasks' models."""
    yield _packaged(package, None, wanted)
    for name in tasks:
        yield _packaged(package, name, wanted)


def of_task(package: Package, task: str, wanted: Wanted) -> Artefact:
    """The model of one task of a package."""
    return _packaged(package, task, wanted)


def of_task_file(path: Path, task: Task, wanted: Wanted) -> Artefact:
    """The model of a task file, wherever that lies."""
    header = task.header
    return Artefact(
        name=header.name,
        kind=TASK,
        opening=_opening(header.backbone, header.name, path, wanted, header.preprocessing.size),
        files=(path,),
        input_size=header.preprocessing.size,
        task=header.name,
        task_file=path,
        preprocessing=header.preprocessing,
        neurons=dict(task.neurons),
        stored_accuracy=dict(header.accuracy),
        origin=str(path.parent),
        backbone=header.backbone.name,
    )


def load(opening: Opening) -> None:
    """Loads torch and makes its context on the device."""
    _answers().load_torch(opening.threads)


@contextmanager
def opened(opening: Opening) -> Iterator[Run]:
    """The model on the best device there is."""
    path = None if opening.task is None else opening.path
    yield _answers().torch_answer(opening.backbone, opening.weights, path, image_size=opening.image_size)


def _packaged(package: Package, name: str | None, wanted: Wanted) -> Artefact:
    """Its bytes are those of the weights and of the task file."""
    like = onnx_runtime.like_in_package(package, name)
    files = [package.backbone_weights] if like.task_file is None else [package.backbone_weights, like.task_file]
    opening = _opening(package.backbone, like.task, like.task_file, wanted, like.input_size)
    return replace(like, opening=opening, files=tuple(files))


def _opening(
    backbone: BackboneIdentity, task: str | None, task_file: Path | None, wanted: Wanted, image_size: ImageSize
) -> Opening:
    return Opening(
        Backend.TORCH,
        path=task_file,
        threads=wanted.threads,
        task=task,
        backbone=backbone.name,
        weights=wanted.weights or PRETRAINED,
        image_size=image_size,
    )


def _answers() -> Any:
    """The one module of training that answers for a task file; it needs torch."""
    return import_module("mimi_edge.training.torch_answers")
