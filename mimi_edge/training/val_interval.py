"""After which epochs the validation images are looked at: where it decides something, and else as seldom as one may."""

from __future__ import annotations

import math

from mimi_edge.training.config import TrainingConfig

TRAINING_BY_LOOKING = 3
"""Times that an image takes that is trained on, forwards and backwards, of what one takes that is looked at."""
MOST_SPENT = 0.04
"""Of the time of training, on looking where nothing depends on it."""


def epochs_between_looks(config: TrainingConfig, train: int, val: int) -> int:
    """From one look at the validation images to the next; after the last epoch of a training there is one in any case.

    Args:
        config: of the run; patience and a time limit need to know after every epoch.
        train: images to train on.
        val: images to look at.
    """
    if config.val_interval is not None:
        return config.val_interval
    if config.patience is not None or config.max_minutes is not None:
        return 1
    return max(1, math.ceil(val / TRAINING_BY_LOOKING / (MOST_SPENT * train)))
