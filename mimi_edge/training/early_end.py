"""When a training ends before its last epoch, because more of them have stopped to help."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def is_out_of_patience(history: Sequence[Mapping[str, float]], number: int, patience: int | None) -> bool:
    """Whether validation accuracy has not risen for so many epochs of a training.

    It follows from the history alone, so that a run that is gone on with ends where it would have.

    Args:
        history: an entry for each epoch of the run.
        number: of the training, from 0.
        patience: epochs without a new best that are too many; None where there may be any number of them.
    """
    if patience is None:
        return False
    reached = [entry["val_accuracy"] for entry in history if entry["round"] == number]
    return bool(reached) and len(reached) - 1 - reached.index(max(reached)) >= patience
