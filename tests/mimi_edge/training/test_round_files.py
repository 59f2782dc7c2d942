"""The tasks on the way, kept so that another than the last can be taken."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from blank_pictures import is_drawn
from test_runs import accuracy_of_the_file
from torch import Tensor
from training_samples import small_config

from mimi_edge.budgets import Budget
from mimi_edge.choices import Store
from mimi_edge.tasks.files import read_task
from mimi_edge.training import measured_task
from mimi_edge.training.batches import DeviceImages
from mimi_edge.training.claims import claimed_again
from mimi_edge.training.config import ANSWERS_FILE
from mimi_edge.training.edited_model import EditedModel
from mimi_edge.training.reports import TrainingReport, finished_report
from mimi_edge.training.round_files import round_file, round_files
from mimi_edge.training.runs import run_training


def test_each_training_leaves_a_task_that_is_what_the_report_says(finished: TrainingReport, pictures: Path) -> None:
    folder = finished.task_file.parent
    assert [point.round for point in finished.rounds] == list(range(1, len(finished.neurons) + 1))
    assert [point.neurons for point in finished.rounds] == [sum(one.values()) for one in finished.neurons]
    for point in finished.rounds:
        task = read_task(folder / point.file)
        assert (folder / point.file).stat().st_size == point.size_bytes
        assert sum(task.neurons.values()) == point.neurons
        for split in ("val", "test"):
            assert point.accuracy[split] == accuracy_of_the_file(task, pictures, split)
            assert task.header.accuracy[split].accuracy == pytest.approx(point.accuracy[split], abs=1e-6)
    assert (folder / finished.rounds[-1].file).read_bytes() == finished.task_file.read_bytes()
    assert finished.rounds[-1].flops == finished.cost.flops
    assert is_drawn(folder / "curve.png")


def test_keeping_them_changes_no_weight(finished: TrainingReport, pictures: Path, tmp_path: Path) -> None:
    report = run_training(small_config(pictures, keep_rounds=False), tmp_path / "run")
    assert report.task_file.read_bytes() == finished.task_file.read_bytes()
    assert report.rounds == ()
    assert not (tmp_path / "run" / "rounds").exists()
    assert not (tmp_path / "run" / "curve.png").exists()


def test_keeping_them_changes_no_weight_where_weights_are_rounded_as_they_train(pictures: Path, tmp_path: Path) -> None:
    options = {"store": Store.INT1, "budget": Budget(size_bytes=2_300), "epochs": 1, "score": "l1-gradients"}
    kept = run_training(small_config(pictures, **options), tmp_path / "kept")
    without = run_training(small_config(pictures, keep_rounds=False, **options), tmp_path / "without")
    assert len(kept.rounds) > 1
    assert kept.task_file.read_bytes() == without.task_file.read_bytes()


def test_the_last_of_them_is_measured_once(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known, seen = measured_task.answers, list[int]()

    def counted(model: EditedModel, images: DeviceImages, batch: int) -> Tensor:
        seen.append(len(images))
        return known(model, images, batch)

    monkeypatch.setattr(measured_task, "answers", counted)
    report = run_training(small_config(pictures, store=Store.INT8), tmp_path / "run")
    assert len(seen) == len(report.rounds) * len(("val", "test"))
    # What exports are held against is what the stored weights answer, which those that were trained do not.
    without = run_training(small_config(pictures, store=Store.INT8, keep_rounds=False), tmp_path / "without")
    assert (tmp_path / "run" / ANSWERS_FILE).read_bytes() == (tmp_path / "without" / ANSWERS_FILE).read_bytes()
    assert without.accuracy == report.accuracy


def test_a_method_that_is_not_pruned_has_no_curve(pictures: Path, tmp_path: Path) -> None:
    report = run_training(small_config(pictures, method="linear", epochs=1), tmp_path / "run")
    assert report.rounds == ()
    assert not (tmp_path / "run" / "rounds").exists()
    (line,) = (tmp_path / "run" / "log.csv").read_text("utf-8").splitlines()[1:]
    assert line.endswith(f",,{report.cost.size_bytes}")  # it has no neurons to count


def test_reports_of_earlier_releases_are_read(finished: TrainingReport, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished.task_file.parent, folder)
    report = json.loads((folder / "report.json").read_text("utf-8"))
    for entry in ("rounds", "epochs_in_time", "confusion"):
        del report[entry]
    for found in report["per_class"].values():
        del found["precision"]
    (folder / "report.json").write_text(json.dumps(report))
    read = finished_report(folder, "task")
    assert (read.rounds, read.epochs, read.accuracy) == ((), (), finished.accuracy)
    assert read.per_class["test"].recalls == finished.per_class["test"].recalls
    assert read.per_class["test"].precisions == {}


def test_the_confusion_matrix_is_that_of_the_report(finished: TrainingReport) -> None:
    folder = finished.task_file.parent
    head, *rows = [line.split(",") for line in (folder / "confusion.csv").read_text("utf-8").splitlines()]
    names = read_task(finished.task_file).header.classes
    assert head[1:] == [row[0] for row in rows] == list(names)
    counts = [[int(count) for count in row[1:]] for row in rows]
    right = sum(counts[index][index] for index in range(len(names)))
    assert right / finished.accuracy["test"].images == finished.accuracy["test"].accuracy
    for index, name in enumerate(names):
        found = finished.per_class["test"]
        assert found.recalls[name] == counts[index][index] / sum(counts[index])
        assert found.precisions[name] == counts[index][index] / sum(row[index] for row in counts)
    told = json.loads((folder / "report.json").read_text("utf-8"))["confusion"]
    wrong = sum(map(sum, counts)) - right
    assert sum(one["images"] for one in told["most_confused"]) == wrong
    assert (folder / told["file"]).is_file()
    assert is_drawn(folder / "confusion.png")


def test_what_killed_processes_left_of_them_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    rounds = tmp_path / "rounds"
    rounds.mkdir()
    for name in (".a[b]-2.safetensors.x_1.part", ".a[b]-x.safetensors.x_1.part", ".other-2.safetensors.x_1.part"):
        (rounds / name).write_bytes(b"half")
    (tmp_path / round_file("a[b]", 1)).write_bytes(b"whole")
    with claimed_again(tmp_path, "a[b]"):
        pass
    assert sorted(path.name for path in rounds.iterdir()) == [
        ".a[b]-x.safetensors.x_1.part",
        ".other-2.safetensors.x_1.part",
        "a[b]-1.safetensors",
    ]
    assert round_files(tmp_path, "a[b]") == [tmp_path / "rounds" / "a[b]-1.safetensors"]
