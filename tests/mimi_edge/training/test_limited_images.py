"""Fewer images than the data has, and learning from those for validation too."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from training_samples import small_config

from mimi_edge.errors import ConfigError, StoppedError
from mimi_edge.events import Event, Note
from mimi_edge.images.dataset import split_document
from mimi_edge.tasks.files import read_task
from mimi_edge.training.config import LEAKAGE_FILE, SPLIT_FILE, TrainingConfig
from mimi_edge.training.prepared_run import prepare
from mimi_edge.training.runs import resume_training, run_training


def fewer(pictures: Path, **changes: object) -> TrainingConfig:
    return small_config(pictures, epochs=1, train_images=10, val_images=4, **changes)


def test_a_run_goes_on_with_the_images_that_it_was_limited_to(pictures: Path, tmp_path: Path) -> None:
    config, steps, heard = fewer(pictures, batch_size=4), iter(range(99)), list[Event]()
    whole = run_training(config, tmp_path / "whole")
    with pytest.raises(StoppedError):
        run_training(config, tmp_path / "again", should_stop=lambda: next(steps) == 3)
    report = resume_training(tmp_path / "again", listener=heard.append)
    assert report.task_file.read_bytes() == whole.task_file.read_bytes()
    assert report.accuracy["val"].images == 4
    split = json.loads((tmp_path / "again" / SPLIT_FILE).read_text())
    assert {name: len(images) for name, images in split["splits"].items()} == {
        "train": 10,
        "val": 4,
        "test": report.accuracy["test"].images,
    }
    assert not [one for one in heard if isinstance(one, Note) and "not in the written split" in one.text]


def test_what_is_learnt_from_val_states_no_accuracy_on_it(pictures: Path, tmp_path: Path) -> None:
    heard: list[Event] = []
    config = fewer(pictures, train_on_val=True)
    report = run_training(config, tmp_path / "both", listener=heard.append)
    header = read_task(report.task_file).header
    assert (set(header.accuracy), set(report.accuracy), set(report.per_class)) == ({"test"}, {"test"}, {"test"})
    said = " ".join(one.text for one in heard if isinstance(one, Note))
    assert "The images for validation are trained on, too" in said
    assert "remove one of each two" not in said
    assert not (tmp_path / "both" / LEAKAGE_FILE).exists()
    apart = run_training(fewer(pictures), tmp_path / "apart")
    assert report.task_file.read_bytes() != apart.task_file.read_bytes()
    prepared = prepare(config)
    assert json.loads((tmp_path / "both" / SPLIT_FILE).read_text()) == split_document(prepared.dataset)


@pytest.mark.parametrize("decided", [{"patience": 2}, {"target_accuracy": 0.9}])
def test_nothing_is_decided_by_images_that_are_trained_on(pictures: Path, decided: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="--train-on-val leaves no images"):
        fewer(pictures, train_on_val=True, **decided)


def test_a_limit_below_one_is_refused(pictures: Path) -> None:
    with pytest.raises(ConfigError, match="--val-images must be at least 1, got 0"):
        small_config(pictures, val_images=0)
    assert fewer(pictures).sha256 != small_config(pictures, epochs=1).sha256
    assert replace(fewer(pictures), data_root="/data", download=True).sha256 == fewer(pictures).sha256
