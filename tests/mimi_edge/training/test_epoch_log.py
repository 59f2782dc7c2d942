"""The log of a run: a line an epoch, none twice, and the same for TensorBoard."""

from __future__ import annotations

import csv
from contextlib import nullcontext
from pathlib import Path

import pytest
from full_disk import room_for
from training_samples import small_config

from mimi_edge.errors import ConfigError, StoppedError
from mimi_edge.events import Note
from mimi_edge.training import epoch_log
from mimi_edge.training.epoch_log import COLUMNS, EpochLog
from mimi_edge.training.loop import Progress
from mimi_edge.training.reports import TrainingReport
from mimi_edge.training.runs import resume_training, run_training

ENTRY = {"round": 0, "epoch": 0, "loss": 0.5, "val_accuracy": 0.75, "step": 4, "learning_rate": 1e-3, "neurons": 3}


def lines(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open(encoding="utf-8", newline="") as opened:
        return list(csv.DictReader(opened))


def test_a_run_logs_every_epoch_as_it_was(finished: TrainingReport) -> None:
    found = lines(finished.task_file.parent)
    trainings = len(finished.neurons)
    assert tuple(found[0]) == COLUMNS
    assert [(one["round"], one["epoch"]) for one in found] == [
        (str(number + 1), str(epoch)) for number in range(trainings) for epoch in (1, 2)
    ]
    assert [int(one["step"]) for one in found] == [4 * (number + 1) for number in range(2 * trainings)]
    assert [int(one["neurons"]) for one in found[::2]] == [sum(one.values()) for one in finished.neurons]
    assert int(found[-1]["bytes"]) == finished.cost.size_bytes
    assert [float(one["val_accuracy"]) for one in found[1::2]] == list(finished.validation)
    seconds = [float(one["seconds"]) for one in found]
    assert seconds == sorted(seconds)
    assert all(0 < float(one["learning_rate"]) <= 1e-2 for one in found)


def test_epochs_that_are_trained_again_are_not_logged_twice(tmp_path: Path) -> None:
    saved = Progress(history=[ENTRY], epoch_seconds=[1.0])
    EpochLog(tmp_path, saved)
    saved.history.append(ENTRY | {"epoch": 1})
    saved.epoch_seconds.append(2.0)
    first = EpochLog(tmp_path, Progress(history=[ENTRY], epoch_seconds=[1.0]))
    first.add(saved)
    with (tmp_path / "log.csv").open("a") as torn:
        torn.write("1,3,1")  # a process was killed in the middle of a line
    again = EpochLog(tmp_path, Progress(history=[ENTRY], epoch_seconds=[1.0]))
    assert [one["epoch"] for one in lines(tmp_path)] == ["1"]
    again.add(saved)
    assert [one["epoch"] for one in lines(tmp_path)] == ["1", "2"]


def test_a_line_that_there_is_no_room_for_comes_with_the_next_that_fits(tmp_path: Path) -> None:
    said: list[Note] = []
    progress = Progress()
    log = EpochLog(tmp_path, progress, listener=said.append)
    for epoch in range(3):
        progress.history.append(ENTRY | {"epoch": epoch})
        progress.epoch_seconds.append(float(epoch))
        with room_for(0) if epoch < 2 else nullcontext():
            log.add(progress)
    assert [one["epoch"] for one in lines(tmp_path)] == ["1", "2", "3"]
    assert [str(tmp_path / "log.csv") in note.text for note in said] == [True]


def test_what_an_earlier_release_did_not_note_is_left_empty(tmp_path: Path) -> None:
    old = {"round": 0, "epoch": 0, "loss": 0.5, "val_accuracy": 0.75}
    EpochLog(tmp_path, Progress(history=[old, ENTRY | {"epoch": 1}], epoch_seconds=[7.0]))
    before, after = lines(tmp_path)
    assert (before["step"], before["seconds"], before["val_accuracy"]) == ("", "", "0.75")
    assert (after["step"], after["seconds"]) == ("4", "7.0")


def test_without_tensorboard_a_run_that_wants_it_says_what_to_install(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(epoch_log, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"tensorboard.*not installed.*\[tensorboard\]"):
        run_training(small_config(pictures, tensorboard=True), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_goes_on_where_tensorboard_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(epoch_log, "find_spec", lambda name: None)
    said: list[Note] = []
    log = EpochLog(tmp_path, Progress(), tensorboard=True, listener=said.append)
    log.add(Progress(history=[ENTRY], epoch_seconds=[1.0]))
    log.close()
    assert "not installed" in said[0].text
    assert len(lines(tmp_path)) == 1


def test_tensorboard_reads_what_the_log_says_after_an_interruption_too(pictures: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs the package tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder, left = tmp_path / "run", iter(range(9))
    config = small_config(pictures, tensorboard=True)
    with pytest.raises(StoppedError):
        run_training(config, folder, should_stop=lambda: next(left, None) is None)
    resume_training(folder)
    read = EventAccumulator(str(folder / "tensorboard")).Reload()
    logged = lines(folder)
    for scalar, column in (("val/accuracy", "val_accuracy"), ("task/bytes", "bytes"), ("train/loss", "loss")):
        told = read.Scalars(scalar)
        written = [one for one in logged if one[column]]  # validation is not looked at after every epoch
        assert [one.step for one in told] == [int(one["step"]) for one in written]
        assert [one.value for one in told] == pytest.approx([float(one[column]) for one in written])
