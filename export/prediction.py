"""Classifies image files with a package, a graph, adapters, engines, or the task of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from mimi_edge.choices import Backend
from mimi_edge.errors import ConfigError, MimiEdgeError
from mimi_edge.events import Advance, Listener, silent
from mimi_edge.export.answers import TOP, NotFiniteError, Ranked, ranked
from mimi_edge.export.prefetch import Prepared, ready, ready_batches
from mimi_edge.export.serving.find import serving
from mimi_edge.export.serving.served import ServedTask, Serving

STAGE = "predict"
BATCH = 16

OnBad = Callable[[Path, MimiEdgeError], None]
"""Hears of an image that cannot be used, or to which a task has no finite answer; the others go on."""


@dataclass(frozen=True)
class Prediction:
    """What one task says about one image.

    Attributes:
        path: of the image.
        task: name of the task.
        label: the most probable class.
        probability: of it, 0..1.
        top: the most probable classes with their probabilities, best first, as many as were asked for.
    """

    path: Path
    task: str
    label: str
    probability: float
    top: Ranked


def predict(
    source: Path,
    image_paths: Sequence[Path],
    tasks: Sequence[str] | None = None,
    *,
    backend: Backend | None = None,
    engine: Path | None = None,
    trust: bool = False,
    threads: int | None = None,
    batch: int = BATCH,
    top: int = TOP,
    on_bad: OnBad | None = None,
    listener: Listener = silent,
) -> list[Prediction]:
    """Classifies images; `predictions` is for so many that their answers should not be held together.

    Args:
        source: a package, a folder of ONNX Runtime adapters, one merged `.onnx` graph beside what it refers to, a run
            folder, or a task file.
        image_paths: the files.
        tasks: names of the source's tasks; None is all of them.
        backend: what computes the answers; None is ONNX Runtime on the CPU, or torch where there is no graph.
        engine: an engine for the package's tasks, instead of one from its shelf.
        trust: use that engine even if it is on no shelf.
        threads: of the runtime.
        batch: images that go through at once.
        top: how many of the most probable classes are named.
        on_bad: hears of images that cannot be used or answered; without it the first one raises.
        listener: hears how far it is.

    Returns:
        For each task in turn, one prediction for each usable image, in the order of the paths.

    Raises:
        ArtifactError: the source is damaged or has no task, or an engine is not to be trusted.
        ConfigError: there is no such task, or an image cannot be used.
        NotFiniteError: a task's answer holds NaN or infinity.
        MimiEdgeError: the backend is not installed, or cannot run here.
    """
    found = serving(source, tasks, backend=backend, engine=engine, trust=trust, threads=threads, listener=listener)
    return list(predictions(found, image_paths, batch=batch, top=top, on_bad=on_bad, listener=listener))


def predictions(
    found: Serving,
    image_paths: Sequence[Path],
    *,
    batch: int = BATCH,
    top: int = TOP,
    on_bad: OnBad | None = None,
    listener: Listener = silent,
) -> Iterator[Prediction]:
    """The answers of `predict`, one after another; memory does not depend on the number of images.

    Args:
        found: what `serving` found in a source.
        image_paths: as of `predict`, like all that follow.
        batch: of images.
        top: classes.
        on_bad: hears of an image when its turn comes.
        listener: hears how far it is.

    Raises:
        MimiEdgeError: as of `predict`.
    """
    total = len(found.tasks) * len(image_paths)
    bad: set[Path] = set()
    for turn, task in enumerate(found.served()):
        done = turn * len(image_paths)
        listener(Advance(STAGE, done, total, {"task": task.name}))
        left = (path for path in image_paths if path not in bad)
        skipped = len(bad)
        for together in ready_batches(left, partial(ready, preprocessing=task.preprocessing), batch):
            yield from _answered(task, together, top, bad, on_bad)
            done += len(together)
            listener(Advance(STAGE, done + skipped, total, {"task": task.name}))
    listener(Advance(STAGE, total, total))


def _answered(
    task: ServedTask, together: Sequence[Prepared[Path]], top: int, bad: set[Path], on_bad: OnBad | None
) -> Iterator[Prediction]:
    """Runs a batch; images without an answer are told in their order."""
    usable = [image for _, image in together if not isinstance(image, ConfigError)]
    logits = iter(task.run(np.concatenate(usable)) if usable else ())
    for path, image in together:
        if isinstance(image, ConfigError):
            bad.add(path)
            _tell(path, image, on_bad)
        elif (found := ranked(next(logits), task.classes, top)) is None:
            _tell(path, NotFiniteError(task.name, path), on_bad)
        else:
            yield Prediction(path, task.name, *found[0], found)


def _tell(path: Path, error: MimiEdgeError, on_bad: OnBad | None) -> None:
    if on_bad is None:
        raise error
    on_bad(path, error)
