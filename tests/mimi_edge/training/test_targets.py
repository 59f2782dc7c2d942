"""Target accuracies: when a run ends by one, what it keeps, and that it goes on where it was."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from training_samples import small_config

from mimi_edge.budgets import Budget
from mimi_edge.choices import Scope
from mimi_edge.errors import ArtifactError, ConfigError, StoppedError
from mimi_edge.tasks.files import read_task
from mimi_edge.training import rounds
from mimi_edge.training.asked_config import asked_config
from mimi_edge.training.config import CHECKPOINT_FILE, KEPT_FILE, TrainingConfig
from mimi_edge.training.prepared_run import prepare
from mimi_edge.training.reports import finished_report
from mimi_edge.training.runs import TrainingReport, resume_training, run_training
from mimi_edge.training.targets import Outcome, holds

STEPS_A_TRAINING = 4
"""32 images in batches of 8, one epoch."""


@pytest.mark.parametrize(
    ("accuracy", "expected"),
    [
        ([0.95], True),
        ([0.9], True),  # not there yet, but nothing is better
        ([0.7, 0.8], True),  # it may still get there
        ([0.7, 0.8, 0.8], False),
        ([0.7, 0.95, 0.9], True),
        ([0.95, 0.92, 0.89], False),
        ([0.95, 0.89], False),
    ],
)
def test_what_holds(accuracy: list[float], expected: bool) -> None:
    assert holds(accuracy, 0.9) is expected


@pytest.mark.parametrize(
    ("accuracy", "kept", "reached", "said"),
    [
        ([0.95, 0.93, 0.85], 1, True, "next smaller task has 85.00% .* training 2, with 93.00%"),
        ([0.95, 0.93], 1, True, "nothing smaller was asked for; 93.00%"),
        ([0.7, 0.6], 0, False, "90.00% was not reached .* the best, 70.00% after training 1"),
        ([0.7, 0.8], 1, False, "was not reached .* 80.00% after training 2"),
    ],
)
def test_what_is_kept_and_why(accuracy: list[float], kept: int, reached: bool, said: str) -> None:
    outcome = Outcome(0.9, tuple(accuracy))
    assert (outcome.kept, outcome.reached) == (kept, reached)
    assert re.search(said, outcome.sentence)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Callable[[Sequence[float]], None]:
    """Lets the validation accuracy after each training be what a test says, by how many neurons are left."""
    seen: dict[int, int] = {}

    def script(values: Sequence[float]) -> None:
        seen.clear()

        def measured(model: rounds.EditedModel, *_: object) -> float:
            neurons = sum(model.sizes.values())
            return values[seen.setdefault(neurons, len(seen))]

        monkeypatch.setattr(rounds, "evaluate", measured)

    return script


def config_of(pictures: Path, **changes: object) -> TrainingConfig:
    return small_config(pictures, **{"epochs": 1, "target_accuracy": 0.9, **changes})


def plain_run(pictures: Path, folder: Path, prunings: int) -> TrainingReport:
    """The run without a target that ends with the task of so many prunings."""
    limits = prepare(config_of(pictures)).schedule.limits
    return run_training(small_config(pictures, epochs=1, budget=limits[prunings - 1]), folder)


def test_the_task_before_the_fall_is_the_result(
    pictures: Path, tmp_path: Path, scripted: Callable[[Sequence[float]], None]
) -> None:
    scripted([0.99, 0.95, 0.5])
    report = run_training(config_of(pictures), tmp_path / "run")
    assert len(report.neurons) == 2
    assert report.target == Outcome(0.9, (0.99, 0.95, 0.5))
    assert report.task_file.stat().st_size == report.cost.size_bytes > 5_000
    expected = plain_run(pictures, tmp_path / "plain", 1)
    assert report.neurons == expected.neurons
    tensors = read_task(report.task_file).tensors
    for name, values in read_task(expected.task_file).tensors.items():
        assert values.tobytes() == tensors[name].tobytes()
    assert "training 2, with 95.00%" in report.stopped
    document = json.loads((tmp_path / "run" / "report.json").read_text(encoding="utf-8"))
    assert document["stopped"] == report.stopped
    assert document["target"]["kept_training"] == 2
    assert finished_report(tmp_path / "run", "task").target == report.target


def test_without_a_fall_the_budget_ends_the_run(
    pictures: Path, tmp_path: Path, scripted: Callable[[Sequence[float]], None]
) -> None:
    scripted([0.95] * 9)
    report = run_training(config_of(pictures), tmp_path / "run")
    plain = run_training(small_config(pictures, epochs=1), tmp_path / "plain")
    assert report.neurons == plain.neurons
    assert report.cost == plain.cost
    assert report.target.reached


def test_a_target_alone_goes_down_to_nothing_but_the_head(
    pictures: Path, tmp_path: Path, scripted: Callable[[Sequence[float]], None]
) -> None:
    scripted([0.95] * 20)
    report = run_training(config_of(pictures, budget=Budget(), rho=0.9), tmp_path / "run")
    assert set(read_task(report.task_file).tensors) == {"head.weight", "head.bias"}
    assert report.budget == {"size_bytes": None, "flops": None}
    assert finished_report(tmp_path / "run", "task") == replace(report, seconds=round(report.seconds, 1))


def test_a_target_out_of_reach_ends_at_the_best_and_says_so(
    pictures: Path, tmp_path: Path, scripted: Callable[[Sequence[float]], None]
) -> None:
    scripted([0.6, 0.7, 0.65])
    report = run_training(config_of(pictures), tmp_path / "run")
    assert len(report.neurons) == 2
    assert not report.target.reached
    assert "90.00% was not reached" in report.stopped


def test_what_is_promised_is_the_accuracy_of_the_file(pictures: Path, tmp_path: Path) -> None:
    report = run_training(config_of(pictures, target_accuracy=0.5, epochs=2), tmp_path / "run")
    assert report.target.accuracy[report.target.kept] == report.accuracy["val"].accuracy


@pytest.mark.parametrize(
    "steps", [STEPS_A_TRAINING, STEPS_A_TRAINING + 1, 3 * STEPS_A_TRAINING - 1, 3 * STEPS_A_TRAINING]
)
def test_a_stopped_run_keeps_the_same_task(
    pictures: Path, tmp_path: Path, scripted: Callable[[Sequence[float]], None], steps: int
) -> None:
    scripted([0.99, 0.95, 0.5])
    whole = run_training(config_of(pictures), tmp_path / "whole")
    left = iter(range(steps - 1))
    with pytest.raises(StoppedError):
        run_training(config_of(pictures), tmp_path / "run", should_stop=lambda: next(left, None) is None)
    report = resume_training(tmp_path / "run")
    assert report.task_file.read_bytes() == whole.task_file.read_bytes()
    assert replace(report, task_file=whole.task_file, seconds=whole.seconds) == whole


def test_a_run_that_lost_its_report_ends_with_the_same_task_again(
    pictures: Path, tmp_path: Path, scripted: Callable[[Sequence[float]], None]
) -> None:
    scripted([0.99, 0.95, 0.5])
    report = run_training(config_of(pictures), tmp_path / "run")
    before = report.task_file.read_bytes()
    (tmp_path / "run" / "report.json").unlink()
    assert resume_training(tmp_path / "run").task_file.read_bytes() == before
    (tmp_path / "run" / "report.json").unlink()
    (tmp_path / "run" / KEPT_FILE).write_bytes(b"damaged")
    with pytest.raises(ArtifactError, match=f"{KEPT_FILE} .*Delete it .*{CHECKPOINT_FILE} must go, too"):
        resume_training(tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"target_accuracy": 95.0}, "share of the validation images, .* got 95"),
        ({"target_accuracy": 0.0}, "--target-accuracy"),
        ({"target_accuracy": None, "budget": Budget()}, "--budget-mb"),
        ({"budget": Budget(), "one_shot": True}, "--one-shot goes straight to a budget"),
        ({"method": "lora"}, "--target-accuracy: --method lora is not pruned"),
        ({"method": "lora", "target_accuracy": None, "one_shot": True}, "--one-shot: --method lora is not pruned"),
        ({"method": "lora", "target_accuracy": None, "score": "snip"}, "--score: --method lora is not pruned"),
        ({"method": "lora", "target_accuracy": None, "scope": Scope.LOCAL}, "--scope: --method lora is not pruned"),
        ({"scope": Scope.STAGES}, "needs --stage-shares"),
        ({"scope": Scope.STAGES, "stage_shares": (1.0,)}, "at least two stages"),
        ({"scope": Scope.STAGES, "stage_shares": (1.0, 0.0)}, "larger than zero, got 1,0"),
        ({"stage_shares": (1.0, 2.0)}, "go with --scope stages"),
    ],
)
def test_options_of_pruning_that_make_no_sense(pictures: Path, changes: dict[str, object], fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        config_of(pictures, **changes)


def test_a_target_needs_no_budget_and_a_budget_no_target() -> None:
    assert asked_config(target_accuracy=0.9).budget == Budget()
    assert asked_config(budget_mb=1, target_accuracy=0.9).budget == Budget(size_bytes=10**6)
    with pytest.raises(ConfigError, match=r"No budget given\. Give --budget-mb"):
        asked_config()
