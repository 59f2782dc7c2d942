"""Classifies image files with a package, a graph, adapters or engines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mimi_edge.choices import Backend
from mimi_edge.errors import ConfigError
from mimi_edge.events import Advance, Listener, silent
from mimi_edge.export.serving import ServedTask, serving
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
    backend: Backend = Backend.ORT_CPU,
    engine: Path | None = None,
    trust: bool = False,
    threads: int | None = None,
    batch: int = BATCH,
    on_bad: OnBad | None = None,
    listener: Listener = silent,
) -> list[Prediction]:
    """Classifies images.

    Args:
        source: a package, a folder of ONNX Runtime adapters, or one merged `.onnx` graph beside what it refers to.
        image_paths: the files.
        tasks: names of the source's tasks; None is all of them.
        backend: what computes the answers.
        engine: an engine for the package's tasks, instead of one from its shelf.
        trust: use that engine even if it is on no shelf.
        threads: of ONNX Runtime.
        batch: images that go through at once.
        on_bad: hears of images that cannot be used; without it the first one raises.
        listener: hears how far it is.

    Returns:
        For each task in turn, one prediction for each usable image, in the order of the paths.

    Raises:
        ArtifactError: the source is damaged or has no task, or an engine is not to be trusted.
        ConfigError: there is no such task, or an image cannot be used.
        MimiEdgeError: the backend is not installed, or cannot run here.
    """
    found = serving(source, tasks, backend=backend, engine=engine, trust=trust, threads=threads, listener=listener)
    total = len(found.tasks) * len(image_paths)
    bad: set[Path] = set()
    predictions: list[Prediction] = []
    for turn, task in enumerate(found.served()):
        for start in range(0, len(image_paths), batch):
            listener(Advance(STAGE, turn * len(image_paths) + start, total, {"task": task.name}))
            chosen = [path for path in image_paths[start : start + batch] if path not in bad]
            predictions += _predictions(task, list(_usable(task, chosen, bad, on_bad)))
    listener(Advance(STAGE, total, total))
    return predictions


def _usable(
    task: ServedTask, paths: Sequence[Path], bad: set[Path], on_bad: OnBad | None
) -> Iterator[tuple[Path, NDArray[np.uint8]]]:
    for path in paths:
        try:
            yield path, fit(read_rgb(path), task.preprocessing)
        except ConfigError as error:
            if on_bad is None:
                raise
            bad.add(path)
            on_bad(path, error)


def _predictions(task: ServedTask, usable: Sequence[tuple[Path, NDArray[np.uint8]]]) -> Iterator[Prediction]:
    if not usable:
        return
    images = normalise(np.stack([image for _, image in usable]), task.preprocessing)
    for (path, _), probabilities in zip(usable, softmax(task.run(images)), strict=True):
        best = np.argsort(-probabilities, kind="stable")[:TOP]
        top = tuple((task.classes[index], float(probabilities[index])) for index in best)
        yield Prediction(path, task.name, *top[0], top)


def softmax(logits: Floats) -> Floats:
    """Probabilities [B, C] of logits [B, C]."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: Floats = powers / powers.sum(axis=1, keepdims=True)
    return probabilities
