"""How often validation images are looked at: it decides no task, and the last epoch of a training always has a look."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from training_samples import small_config

from mimi_edge.budgets import Budget
from mimi_edge.errors import ConfigError, StoppedError
from mimi_edge.training.config import TrainingConfig
from mimi_edge.training.runs import resume_training, run_training
from mimi_edge.training.val_interval import epochs_between_looks


def looks(folder: Path) -> list[str]:
    """Epochs of a run after which validation images were looked at, as training.epoch."""
    with (folder / "log.csv").open(encoding="utf-8", newline="") as opened:
        return [f"{one['round']}.{one['epoch']}" for one in csv.DictReader(opened) if one["val_accuracy"]]


def test_a_run_looks_when_it_was_asked_to_and_at_the_end_of_each_training(pictures: Path, tmp_path: Path) -> None:
    every, seldom = (small_config(pictures, epochs=5, val_interval=interval) for interval in (1, 2))
    first = run_training(every, tmp_path / "every")
    steps = iter(range(99))
    with pytest.raises(StoppedError):
        run_training(seldom, tmp_path / "seldom", should_stop=lambda: next(steps) == 29)
    second = resume_training(tmp_path / "seldom")
    trainings = range(1, len(second.neurons) + 1)
    assert looks(tmp_path / "every") == [f"{number}.{epoch}" for number in trainings for epoch in range(1, 6)]
    assert looks(tmp_path / "seldom") == [f"{number}.{epoch}" for number in trainings for epoch in (2, 4, 5)]
    assert second.validation == first.validation
    assert second.task_file.read_bytes() == first.task_file.read_bytes()


@pytest.mark.parametrize(
    ("train", "val", "epochs"),
    [(3000, 1000, 3), (1078, 359, 3), (100_000, 10_000, 1), (10, 1000, 834)],
)
def test_unasked_a_look_takes_a_twenty_fifth_of_training(train: int, val: int, epochs: int) -> None:
    found = epochs_between_looks(TrainingConfig(Budget(1)), train, val)
    assert found == epochs
    assert val / 3 / (found * train) <= 0.04


@pytest.mark.parametrize("deciding", [{"patience": 3}, {"max_minutes": 5.0}])
def test_every_epoch_has_one_where_something_depends_on_it(deciding: dict[str, float]) -> None:
    assert epochs_between_looks(TrainingConfig(Budget(1), **deciding), 3000, 1000) == 1
    with pytest.raises(ConfigError, match="--val-interval goes without --"):
        TrainingConfig(Budget(1), val_interval=2, **deciding)


def test_an_interval_is_at_least_an_epoch() -> None:
    with pytest.raises(ConfigError, match="--val-interval must be at least 1 epoch, got 0"):
        TrainingConfig(Budget(1), val_interval=0)
