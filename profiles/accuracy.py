"""How often what was built is right: top-1 accuracy of an artefact in its runtime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mimi_edge.errors import ConfigError
from mimi_edge.events import Advance, Listener, silent
from mimi_edge.images.decode import LabelledImages
from mimi_edge.images.preprocessing import Preprocessing
from mimi_edge.profiles.reports import MeasuredAccuracy
from mimi_edge.recalls import class_recalls

if TYPE_CHECKING:
    from mimi_edge.profiles.processes import Crew

BATCH = 32


def answered_classes(
    crew: Crew,
    name: str,
    split: LabelledImages,
    preprocessing: Preprocessing,
    *,
    batch: int = BATCH,
    listener: Listener = silent,
) -> list[int] | None:
    """Sends every image of a split once to the process of an artefact, and gives the best class of each.

    The labels stay here: what is measured does not see them.

    Args:
        crew: the processes.
        name: of the artefact, which is open.
        split: decoded images.
        preprocessing: of the task.
        batch: images at a time; the last batch may have fewer.
        listener: hears how far it is.

    Returns:
        None where its process failed; the crew then knows why.

    Raises:
        ConfigError: there are no images.
    """
    count, stage = len(split.images), f"accuracy of {name}"
    if not count:
        raise ConfigError("Accuracy needs images, and this split has none. Give a split with images.")
    answers: list[int] = []
    for start in range(0, count, batch):
        listener(Advance(stage, start, count))
        images = split.images[start : start + batch]
        request = {"do": "classify", "shape": list(images.shape), "preprocessing": preprocessing.document()}
        answer = crew.ask(name, "accuracy", request, images.tobytes())
        if answer is None:
            return None
        answers += answer["classes"]
    listener(Advance(stage, count, count))
    return answers


def measured_accuracy(split: LabelledImages, answers: Sequence[int]) -> MeasuredAccuracy:
    """What answers for all images of a split are worth."""
    given = np.asarray(answers, np.int64)
    recalls = class_recalls(given, split.labels, split.classes).recalls if split.classes else {}
    return MeasuredAccuracy(split.name, len(split), int((given == split.labels).sum()), recalls)
