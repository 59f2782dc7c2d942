"""Classifies image files with a package, a graph, adapters, engines, or the task of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from mimi_edge.errors import ConfigError, MimiEdgeError
from mimi_edge.events import Advance, Listener, silent
from mimi_edge.export.answers import TOP, NotFiniteError, Ranked, ranked
from mimi_edge.export.prefetch import Prepared, ready, ready_batches
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


def predictions(
    found: Serving,
    image_paths: Sequence[Path],
    *,
    batch: int = BATCH,
    top: int = TOP,
    on_bad: OnBad | None = None,
    listener: Listener = silent,
) -> Iterator[Prediction]:
    """Classifies images, one answer after another; memory does not depend on the number of images.

    Args:
        found: what `serving` found in a source.
        image_paths: the files.
        batch: images that go through at once.
        top: how many of the most probable classes are named.
        on_bad: hears of an image that cannot be used or answered, when its turn comes; without it the first one raises.
        listener: hears how far it is.

    Yields:
        For each task in turn, one prediction for each usable image, in the order of the paths.

    Raises:
        ConfigError: an image cannot be used.
        NotFiniteError: a task's answer holds NaN or infinity.
        MimiEdgeError: the task cannot be loaded, or cannot run here.
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
