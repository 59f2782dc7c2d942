"""Runs that must end in time: what is left of their epochs, and that the budget is met whatever happens."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from training_samples import small_config

from mimi_edge.budgets import Budget
from mimi_edge.errors import StoppedError
from mimi_edge.events import Note
from mimi_edge.training.batches import Place
from mimi_edge.training.reports import TrainingReport, finished_report
from mimi_edge.training.runs import resume_training, run_training
from mimi_edge.training.time_limit import TimeLimit, before_next

PLANNED = (10, 10, 10)


def turned(seconds: float) -> Callable[[], float]:
    """A clock that goes on by so many seconds each time somebody looks at it."""
    return itertools.count(0.0, seconds).__next__


def epochs_had(report: TrainingReport, folder: Path) -> list[int]:
    """Of each training, as its log has them."""
    rounds = [int(line.split(",")[0]) for line in (folder / "log.csv").read_text("utf-8").splitlines()[1:]]
    return [rounds.count(number + 1) for number in range(max(rounds))]


@pytest.mark.parametrize(
    ("elapsed", "epoch", "expected"),
    [
        pytest.param(10, 10, PLANNED, id="there is time for all"),
        pytest.param(30, 10, (5, 5, 6), id="all are shortened alike"),
        pytest.param(40, 150, (1, 0, 1), id="not one for each: straight to the last"),
        pytest.param(201, 10, (1, 0, 10), id="the others had their share: the last keeps its own"),
        pytest.param(10, None, PLANNED, id="nobody knows yet what an epoch takes"),
    ],
)
def test_what_time_leaves(elapsed: float, epoch: float | None, expected: tuple[int, ...]) -> None:
    limit = TimeLimit(300 if elapsed != 30 else 180, PLANNED)
    assert limit.epochs(Place(0, 1, 0), elapsed, epoch) == expected


def test_the_last_training_may_use_all_that_is_left_and_no_more() -> None:
    limit = TimeLimit(300, PLANNED)
    assert limit.epochs(Place(2, 3, 0), 260, 10) == (10, 10, 7)
    assert not limit.is_up(2, 299)
    assert limit.is_up(2, 300)
    assert [limit.is_up(1, seconds) for seconds in (199, 201)] == [False, True]


def test_where_no_budget_must_be_met_nothing_follows_the_end() -> None:
    limit = TimeLimit(300, PLANNED, must_prune=False)
    assert not limit.is_up(0, 299)
    assert limit.epochs(Place(0, 4, 0), 300, 10) == (4, 0, 0)
    assert before_next((4, 0, 0), 0) == 2


@pytest.mark.parametrize(("epochs", "training", "expected"), [((2, 2, 2), 0, 0), ((2, 0, 0, 1), 0, 2), ((2, 2), 1, 1)])
def test_prunings_between_trainings_that_are_left_out_are_left_out(
    epochs: tuple[int, ...], training: int, expected: int
) -> None:
    assert before_next(epochs, training) == expected


@given(
    planned=st.lists(st.integers(1, 30), min_size=1, max_size=8),
    done=st.integers(0, 30),
    training=st.integers(0, 7),
    elapsed=st.floats(0, 1000),
    epoch=st.floats(0.5, 400),
)
def test_what_is_left_fits_and_the_last_training_is_never_left_out(
    planned: list[int], done: int, training: int, elapsed: float, epoch: float
) -> None:
    training %= len(planned)
    place = Place(training, min(done, planned[training]), 0)
    limit = TimeLimit(1000, tuple(planned))
    epochs = limit.epochs(place, elapsed, epoch)
    assert len(epochs) == len(planned)
    assert all(0 <= one <= most for one, most in zip(epochs, planned, strict=True))
    assert epochs[training] >= place.epoch
    to_come = sum(epochs[training:]) - place.epoch
    if training + 1 < len(planned):
        assert epochs[-1] >= 1
    if not limit.is_up(training, elapsed):
        assert to_come <= max(1, (1000 - elapsed) / epoch)


def test_a_limit_that_is_not_reached_changes_nothing(finished: TrainingReport, pictures: Path, tmp_path: Path) -> None:
    report = run_training(small_config(pictures, max_minutes=60), tmp_path / "run")
    # The configuration's hash is another, the weights are not.
    assert report.accuracy == finished.accuracy
    assert report.validation == finished.validation
    assert report.neurons == finished.neurons
    assert report.stopped == "the budget is met"


@pytest.mark.parametrize("minutes", [0.001, 0.5, 1.2])
def test_the_budget_is_met_however_little_time_there_is(pictures: Path, tmp_path: Path, minutes: float) -> None:
    said: list[str] = []
    report = run_training(
        small_config(pictures, max_minutes=minutes, epochs=6),
        tmp_path / "run",
        clock=turned(0.5),
        listener=lambda event: said.append(event.text) if isinstance(event, Note) else None,
    )
    assert report.task_file.stat().st_size == report.cost.size_bytes <= 5_000
    assert report.next_neuron is not None
    had = epochs_had(report, tmp_path / "run")
    assert sum(had) < 18
    assert had[-1] >= 1
    assert list(report.epochs) == had
    assert len([text for text in said if "minutes are not enough for all epochs" in text]) == 1
    assert "--max-minutes left the trainings" in report.stopped
    assert finished_report(tmp_path / "run", "task").stopped == report.stopped


def test_a_run_that_is_gone_on_with_has_no_new_time(pictures: Path, tmp_path: Path) -> None:
    steps = iter(range(10))
    with pytest.raises(StoppedError):
        run_training(
            small_config(pictures, max_minutes=1, epochs=6),
            tmp_path / "run",
            clock=turned(1.0),
            should_stop=lambda: next(steps, None) is None,
        )
    report = resume_training(tmp_path / "run", clock=turned(1.0))
    assert report.epochs
    assert report.cost.size_bytes <= 5_000


def test_a_run_that_only_has_a_target_ends_where_it_is(pictures: Path, tmp_path: Path) -> None:
    config = small_config(pictures, max_minutes=0.2, epochs=6, budget=Budget(), target_accuracy=0.01)
    report = run_training(config, tmp_path / "run", clock=turned(1.0))
    assert len(report.neurons) == 1
    assert len(report.epochs) > 1
    assert not any(report.epochs[1:])
