"""How often what was built is right: top-1 accuracy of a graph in its runtime."""

from __future__ import annotations

from collections.abc import Callable

from mimi_edge.errors import ConfigError
from mimi_edge.events import Advance, Listener, silent
from mimi_edge.images.decoding import DecodedSplit
from mimi_edge.images.preprocessing import Preprocessing, normalise
from mimi_edge.tasks.stores import Floats
from mimi_edge.tasks.task import SplitAccuracy

Run = Callable[[Floats], Floats]
"""Images [B, 3, S, S] to logits [B, C]."""


def top1_accuracy(
    run: Run,
    split: DecodedSplit,
    preprocessing: Preprocessing,
    *,
    batch: int = 32,
    listener: Listener = silent,
    stage: str = "accuracy",
) -> SplitAccuracy:
    """Classifies every image of a split once.

    Args:
        run: the graph.
        split: decoded images; its labels are indices into the task's classes.
        preprocessing: of the task.
        batch: images at a time; the last batch may have fewer.
        listener: hears how far it is.
        stage: what to call this to the listener.

    Raises:
        ConfigError: there are no images.
    """
    count = len(split.images)
    if not count:
        raise ConfigError("Accuracy needs images, and this split has none. Give a split with images.")
    right = 0
    for start in range(0, count, batch):
        listener(Advance(stage, start, count))
        logits = run(normalise(split.images[start : start + batch], preprocessing))
        right += int((logits.argmax(axis=1) == split.labels[start : start + batch]).sum())
    listener(Advance(stage, count, count))
    return SplitAccuracy(right / count, count)
