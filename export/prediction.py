"""Classifies image files with a package or a merged graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mimi_edge.choices import Backend
from mimi_edge.errors import ArtifactError, ConfigError
from mimi_edge.events import Advance, Listener, silent
from mimi_edge.export.graphs import GraphTask
from mimi_edge.export.onnx_runtime import OnnxModel, open_graph
from mimi_edge.export.packages import read_package
from mimi_edge.images.preprocessing import fit, normalise
from mimi_edge.images.reading import read_rgb
from mimi_edge.tasks.stores import Floats

STAGE = "predict"
BATCH = 16
TOP = 5

OnBad = Callable[[Path, ConfigError], None]
"""Hears of an image that cannot be used; the others go on."""


@dataclass(frozen=True)
class Prediction:
    """What one task says about one image.

    Attributes:
        path: of the image.
        task: name of the task.
        label: the most probable class.
        probability: of it, 0..1.
        top: the most probable classes with their probabilities, best first, at most five.
    """

    path: Path
    task: str
    label: str
    probability: float
    top: tuple[tuple[str, float], ...]


def predict(
    source: Path,
    image_paths: Sequence[Path],
    tasks: Sequence[str] | None = None,
    *,
    threads: int | None = None,
    backend: Backend = Backend.ORT_CPU,
    batch: int = BATCH,
    on_bad: OnBad | None = None,
    listener: Listener = silent,
) -> list[Prediction]:
    """Classifies images.

    Args:
        source: a package, or one merged `.onnx` graph with what it refers to beside it.
        image_paths: the files.
        tasks: names of the package's tasks; None is all of them.
        threads: of ONNX Runtime.
        backend: one of ONNX Runtime's.
        batch: images that go through at once.
        on_bad: hears of images that cannot be used; without it the first one raises.
        listener: hears how far it is.

    Returns:
        For each task in turn, one prediction for each usable image, in the order of the paths.

    Raises:
        ArtifactError: the package or graph is damaged or has no task.
        ConfigError: the package has no such task, or an image cannot be used.
        MimiEdgeError: ONNX Runtime is not installed.
    """
    graphs = _graphs(source, tasks)
    total = len(graphs) * len(image_paths)
    bad: set[Path] = set()
    predictions: list[Prediction] = []
    for turn, graph in enumerate(graphs):
        # One task at a time: several sessions would hold several copies of the backbone.
        model = open_graph(graph, threads=threads, backend=backend)
        for start in range(0, len(image_paths), batch):
            listener(Advance(STAGE, turn * len(image_paths) + start, total, {"task": _task(model).name}))
            chosen = [path for path in image_paths[start : start + batch] if path not in bad]
            usable = list(_usable(model, chosen, bad, on_bad))
            predictions += _predictions(model, usable)
    listener(Advance(STAGE, total, total))
    return predictions


def _graphs(source: Path, tasks: Sequence[str] | None) -> list[Path]:
    if source.is_dir():
        package = read_package(source)
        return [package.task(name).graph for name in (package.tasks if tasks is None else tasks)]
    if tasks is not None:
        raise ConfigError(f"{source} is one graph with its own task; give a package to choose among tasks.")
    return [source]


def _usable(
    model: OnnxModel, paths: Sequence[Path], bad: set[Path], on_bad: OnBad | None
) -> Iterator[tuple[Path, NDArray[np.uint8]]]:
    for path in paths:
        try:
            yield path, fit(read_rgb(path), model.info.preprocessing)
        except ConfigError as error:
            if on_bad is None:
                raise
            bad.add(path)
            on_bad(path, error)


def _predictions(model: OnnxModel, usable: Sequence[tuple[Path, NDArray[np.uint8]]]) -> Iterator[Prediction]:
    if not usable:
        return
    images = normalise(np.stack([image for _, image in usable]), model.info.preprocessing)
    task = _task(model)
    for (path, _), probabilities in zip(usable, softmax(model.run(images)), strict=True):
        best = np.argsort(-probabilities, kind="stable")[:TOP]
        top = tuple((task.classes[index], float(probabilities[index])) for index in best)
        yield Prediction(path, task.name, *top[0], top)


def _task(model: OnnxModel) -> GraphTask:
    if model.info.task is None:
        raise ArtifactError(f"{model.path} is a bare backbone without a task; merge one: mimi-edge export")
    return model.info.task


def softmax(logits: Floats) -> Floats:
    """Probabilities [B, C] of logits [B, C]."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: Floats = powers / powers.sum(axis=1, keepdims=True)
    return probabilities
