"""Trainings that end because more epochs have stopped to help."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from training_samples import small_config

from mimi_edge.errors import StoppedError
from mimi_edge.training.early_end import is_out_of_patience
from mimi_edge.training.runs import resume_training, run_training


def history(*trainings: list[float]) -> list[dict[str, float]]:
    return [{"round": number, "val_accuracy": value} for number, values in enumerate(trainings) for value in values]


@pytest.mark.parametrize(
    ("reached", "patience", "expected"),
    [
        ([], 1, False),
        ([0.5], 1, False),
        ([0.5, 0.6], 1, False),
        ([0.5, 0.5], 1, True),
        ([0.5, 0.6, 0.6], 2, False),
        ([0.5, 0.6, 0.6, 0.4], 2, True),
        ([0.6, 0.5, 0.5, 0.7], 2, False),
        ([0.5, 0.5, 0.5], None, False),
    ],
)
def test_a_training_ends_when_nothing_has_risen_for_so_long(
    reached: list[float], patience: int | None, expected: bool
) -> None:
    assert is_out_of_patience(history([0.9, 0.9, 0.9], reached), 1, patience) is expected


def epochs_by_training(folder: Path) -> list[list[float]]:
    entries = json.loads((folder / "report.json").read_text("utf-8"))["history"]
    return [[one["val_accuracy"] for one in entries if one["round"] == number] for number in range(3)]


def test_a_run_with_patience_ends_its_trainings_early_and_resumes_exactly(pictures: Path, tmp_path: Path) -> None:
    config = small_config(pictures, epochs=6, patience=1)
    whole = run_training(config, tmp_path / "whole")
    had = epochs_by_training(tmp_path / "whole")
    assert any(len(one) < 6 for one in had)
    for number, one in enumerate(had):
        ended_early = is_out_of_patience(history(one), 0, 1)
        assert ended_early or len(one) == 6, number
        assert not is_out_of_patience(history(one[:-1]), 0, 1)
    # Stopped right where the first training ends, and somewhere else.
    for steps in (4 * len(had[0]), 4 * len(had[0]) + 3):
        folder, left = tmp_path / f"stopped {steps}", iter(range(steps - 1))
        with pytest.raises(StoppedError):
            run_training(config, folder, should_stop=lambda left=left: next(left, None) is None)
        assert resume_training(folder).task_file.read_bytes() == whole.task_file.read_bytes()
        assert epochs_by_training(folder) == had
