"""Whole runs on hand-made images: the budget, the report, what may choose and what may not."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from blank_pictures import is_drawn
from torch import nn
from training_samples import CLASS_FOLDERS, small_config, tiny_backbone, write_image_folder

from mimi_edge.budgets import Budget
from mimi_edge.choices import EARLIER_SCORE_NAMES, SCORE_NAMES
from mimi_edge.errors import BudgetInfeasibleError, ConfigError, MimiEdgeError, StoppedError
from mimi_edge.events import Event, Note
from mimi_edge.files import write_json
from mimi_edge.images.dataset import decode_dataset, load_dataset
from mimi_edge.images.preprocessing import normalise
from mimi_edge.selection import Scope
from mimi_edge.tasks.files import read_task, task_bytes
from mimi_edge.tasks.stores import Store
from mimi_edge.tasks.task import Task, decode_tensors
from mimi_edge.training import loop, measured_task, run_end, run_pictures, runs
from mimi_edge.training.batches import DeviceImages
from mimi_edge.training.config import TrainingConfig, read_config, read_split
from mimi_edge.training.prepared_run import prepare
from mimi_edge.training.references import reference_logits
from mimi_edge.training.runs import TrainingReport, resume_training, run_training


def accuracy_of_the_file(task: Task, data: Path, split: str) -> float:
    """Of the stored weights, worked out again from the images on."""
    backbone = tiny_backbone("vit")
    dataset = load_dataset(str(data), seed=0)
    decoded = decode_dataset(dataset, backbone.preprocessing)[split]
    logits = reference_logits(backbone, task)(normalise(decoded.images, backbone.preprocessing))
    assert tuple(dataset.classes) == task.header.classes
    return float((logits.argmax(1) == decoded.labels).mean())


def weights_of(report: TrainingReport) -> dict[str, bytes]:
    return {name: values.tobytes() for name, values in read_task(report.task_file).tensors.items()}


def assert_budget_met_exactly(report: TrainingReport, budget_bytes: int) -> None:
    assert report.task_file.stat().st_size == report.cost.size_bytes <= budget_bytes
    assert report.next_neuron is not None
    assert report.next_neuron[1].size_bytes > budget_bytes


def test_the_budget_is_met_exactly(finished: TrainingReport) -> None:
    assert_budget_met_exactly(finished, 5_000)
    task = read_task(finished.task_file)
    assert task.neurons == {site: count for site, count in finished.neurons[-1].items() if count}


def test_rounds_go_down_to_the_budget(finished: TrainingReport) -> None:
    totals = [sum(neurons.values()) for neurons in finished.neurons]
    assert totals[0] == 6 * 16
    assert totals == sorted(totals, reverse=True)
    assert len(set(totals)) == len(totals) >= 3
    assert len(finished.validation) == len(finished.neurons)  # K + 1 trainings, never a pruning after the last


def test_the_report_is_what_the_file_gives(finished: TrainingReport, pictures: Path) -> None:
    task = read_task(finished.task_file)
    written = json.loads((finished.task_file.parent / "report.json").read_text(encoding="utf-8"))
    assert written["size_bytes"] == finished.task_file.stat().st_size
    assert written["with_next_neuron"]["size_bytes"] == finished.next_neuron[1].size_bytes
    for split, images in (("val", 12), ("test", 18)):
        again = accuracy_of_the_file(task, pictures, split)
        assert finished.accuracy[split].images == images
        assert finished.accuracy[split].accuracy == again == written["accuracy"][split]["accuracy"]
        assert task.header.accuracy[split].accuracy == pytest.approx(again, abs=1e-6)


def test_the_report_goes_class_by_class(finished: TrainingReport, pictures: Path) -> None:
    written = json.loads((finished.task_file.parent / "report.json").read_text(encoding="utf-8"))["per_class"]
    assert set(written) == {"val", "test"}
    for split, found in written.items():
        recalls = found["recall"]
        assert tuple(recalls) == read_task(finished.task_file).header.classes
        # The classes here are of one size, so both means are the same.
        assert sum(recalls.values()) / len(recalls) == pytest.approx(finished.accuracy[split].accuracy)
        assert found["balanced_accuracy"] == pytest.approx(finished.accuracy[split].accuracy)
        assert found["seen_in_training"] == 0


def test_a_test_split_that_was_trained_on_is_told(tmp_path: Path) -> None:
    data = write_image_folder(tmp_path / "data", {"train": 3, "val": 1, "test": 1})
    shutil.copy(next((data / "train" / "red").iterdir()), data / "test" / "red" / "again.png")
    said: list[str] = []
    report = run_training(
        small_config(data, epochs=1),
        tmp_path / "run",
        listener=lambda event: said.append(event.text) if isinstance(event, Note) else None,
    )
    assert any("1 of 3 test images are train images too: test/red/again.png = train/red/" in text for text in said)
    assert report.per_class["test"].seen_in_training == 1
    lines = (tmp_path / "run" / "leakage.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "split,image,earlier split,same image there,same class"
    assert lines[1].startswith("test,test/red/again.png,train,train/red/")
    assert lines[1].endswith(",yes")
    assert len(lines) == 2
    assert "1 of the images were trained on" in report.per_class["test"].sentence()


def test_it_learns_what_is_easy(finished: TrainingReport) -> None:
    assert finished.accuracy["test"].accuracy > 0.8


def test_the_run_folder_holds_a_picture_of_the_neurons(finished: TrainingReport) -> None:
    picture = finished.task_file.parent / "neurons.png"
    assert is_drawn(picture)
    assert not [path for path in finished.task_file.parent.iterdir() if path.name.endswith(".part")]


@pytest.mark.parametrize("store", [Store.FP16, Store.INT8])
def test_the_accuracy_is_that_of_the_stored_weights(pictures: Path, tmp_path: Path, store: Store) -> None:
    report = run_training(small_config(pictures, store=store, budget=Budget(size_bytes=3_500)), tmp_path / "run")
    assert_budget_met_exactly(report, 3_500)
    for split in ("val", "test"):
        assert report.accuracy[split].accuracy == accuracy_of_the_file(read_task(report.task_file), pictures, split)


def test_the_weights_measured_are_the_stored_ones(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Accuracies of easy images may agree by chance; the weights that were measured may not."""
    measured = []
    known = measured_task.answers
    monkeypatch.setattr(
        measured_task, "answers", lambda model, *images: (measured.append(model.weights()), known(model, *images))[1]
    )
    config = small_config(pictures, store=Store.INT8, epochs=1, budget=Budget(size_bytes=3_500), keep_rounds=False)
    task = read_task(run_training(config, tmp_path / "run").task_file)
    assert len(measured) == 2
    stored = decode_tensors(task.tensors)
    for weights in measured:
        assert weights.keys() == stored.keys()
        for name, values in stored.items():
            assert np.array_equal(weights[name], values)


def test_both_budgets_at_once(pictures: Path, tmp_path: Path) -> None:
    bare = prepare(small_config(pictures)).least_cost.flops
    budget = Budget(6_000, bare + 10 * 4 * 17 * 16)
    report = run_training(small_config(pictures, budget=budget, epochs=1), tmp_path / "run")
    assert report.cost.flops <= budget.flops
    assert report.cost.size_bytes <= budget.size_bytes
    assert sum(report.neurons[-1].values()) == 10
    assert report.next_neuron[1].flops > budget.flops


def test_a_budget_for_the_head_alone_leaves_no_adapter(pictures: Path, tmp_path: Path) -> None:
    least = prepare(small_config(pictures)).least_cost.size_bytes
    report = run_training(small_config(pictures, budget=Budget(size_bytes=least), epochs=1), tmp_path / "run")
    assert report.task_file.stat().st_size == least
    assert set(read_task(report.task_file).tensors) == {"head.weight", "head.bias"}
    assert report.frozen_blocks == 3


def test_an_infeasible_budget_is_refused_before_training(pictures: Path, tmp_path: Path) -> None:
    least = prepare(small_config(pictures)).least_cost.size_bytes
    with pytest.raises(BudgetInfeasibleError, match=r"--budget-mb 0\.00"):
        run_training(small_config(pictures, budget=Budget(size_bytes=least - 1)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"scope": Scope.LOCAL},
        {"scope": Scope.STAGES, "stage_shares": (1.0, 1.0, 2.0)},
        {"one_shot": True},
        *({"score": name} for name in (*SCORE_NAMES, *EARLIER_SCORE_NAMES) if name != "mimi"),
    ],
    ids=lambda changes: str(next(iter(changes.values()))),
)
def test_other_ways_to_choose_meet_the_budget_too(pictures: Path, tmp_path: Path, changes: dict[str, object]) -> None:
    report = run_training(small_config(pictures, epochs=1, **changes), tmp_path / "run")
    assert_budget_met_exactly(report, 5_000)
    if changes.get("scope") is Scope.STAGES:
        kept = [sum(report.neurons[-1][f"blocks.{block}.{part}"] for part in ("attn", "mlp")) for block in range(3)]
        assert max(abs(count - kept[2] * share / 2) for count, share in zip(kept, (1, 1, 2), strict=True)) <= 1
    if changes.get("scope") is Scope.LOCAL:
        assert max(report.neurons[-1].values()) - min(report.neurons[-1].values()) <= 1


def test_one_shot_trains_for_as_many_epochs(finished: TrainingReport, pictures: Path, tmp_path: Path) -> None:
    report = run_training(small_config(pictures, one_shot=True), tmp_path / "run")
    assert len(report.neurons) == 2

    def epochs(of: TrainingReport) -> list[int]:
        history = json.loads((of.task_file.parent / "report.json").read_text(encoding="utf-8"))["history"]
        return [entry["round"] for entry in history]

    assert len(epochs(report)) == len(epochs(finished))
    assert epochs(report).count(0) == epochs(finished).count(0) == 2


def with_swapped_labels(pictures: Path, folder: Path, split: str) -> Path:
    shutil.copytree(pictures, folder)
    (folder / split / "blue").rename(folder / split / "kept")
    (folder / split / "red").rename(folder / split / "blue")
    (folder / split / "kept").rename(folder / split / "red")
    return folder


@pytest.mark.parametrize("split", ["test", "val"])
def test_held_out_labels_change_no_weight(finished: TrainingReport, pictures: Path, tmp_path: Path, split: str) -> None:
    """The test split is read for the report alone, and nothing here is chosen on val either."""
    swapped = with_swapped_labels(pictures, tmp_path / "swapped", split)
    report = run_training(small_config(swapped), tmp_path / "run")
    assert weights_of(report) == weights_of(finished)
    assert report.accuracy[split].accuracy == pytest.approx(1 - finished.accuracy[split].accuracy)


def test_training_labels_do_change_weights(finished: TrainingReport, pictures: Path, tmp_path: Path) -> None:
    report = run_training(small_config(with_swapped_labels(pictures, tmp_path / "s", "train")), tmp_path / "run")
    assert weights_of(report) != weights_of(finished)


def test_the_same_run_gives_the_same_bytes_and_another_seed_others(
    finished: TrainingReport, pictures: Path, tmp_path: Path
) -> None:
    again = run_training(small_config(pictures), tmp_path / "again")
    assert again.task_file.read_bytes() == finished.task_file.read_bytes()
    other = run_training(small_config(pictures, seed=1), tmp_path / "other")
    assert weights_of(other) != weights_of(finished)


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.parametrize("epochs", [1, 3])
def test_a_loss_that_is_no_number_is_one_clear_error(pictures: Path, tmp_path: Path, epochs: int) -> None:
    with pytest.raises(MimiEdgeError, match="--lr"):
        run_training(small_config(pictures, learning_rate=1e30, epochs=epochs), tmp_path / "run")
    assert not (tmp_path / "run" / "task.safetensors").exists()


def test_a_folder_that_holds_a_run_is_refused(finished: TrainingReport, pictures: Path) -> None:
    before = finished.task_file.read_bytes()
    with pytest.raises(ConfigError, match="--resume"):
        run_training(small_config(pictures), finished.task_file.parent)
    assert finished.task_file.read_bytes() == before


def test_neurons_to_start_with(pictures: Path, tmp_path: Path) -> None:
    start = {"blocks.2.attn": 3, "blocks.2.mlp": 2}
    report = run_training(small_config(pictures, epochs=1), tmp_path / "run", start=start)
    assert {site: count for site, count in report.neurons[0].items() if count} == start
    assert report.neurons[-1] == report.neurons[0]
    assert report.next_neuron is None
    assert report.frozen_blocks == 2


def test_own_splits_are_written_down(finished: TrainingReport) -> None:
    document = json.loads((finished.task_file.parent / "split.json").read_text(encoding="utf-8"))
    assert {split: len(entries) for split, entries in document["splits"].items()} == {
        "train": 32,
        "val": 12,
        "test": 18,
    }


def test_odd_class_names_go_through_a_whole_run(tmp_path: Path) -> None:
    data = write_image_folder(tmp_path / "data", {"train": 3, "val": 1, "test": 1})
    for split in ("train", "val", "test"):
        (data / split / "blue").rename(data / split / '🐙 "é"')
        (data / split / "red").rename(data / split / "back\\slash")
    report = run_training(small_config(data, epochs=1), tmp_path / "run")
    assert set(read_task(report.task_file).header.classes) == {'🐙 "é"', "back\\slash"}
    assert_budget_met_exactly(report, 5_000)


def test_small_classes_are_left_out_of_the_task_and_stay_so(tmp_path: Path) -> None:
    data = write_image_folder(tmp_path / "data", {"train": 4, "val": 1, "test": 1})
    (data / "train" / "rare").mkdir()
    shutil.copy(next((data / "train" / "red").iterdir()), data / "train" / "rare" / "1.png")
    config = small_config(data, epochs=1, min_images=2)
    report = run_training(config, tmp_path / "run")
    assert read_task(report.task_file).header.classes == CLASS_FOLDERS
    again = prepare(read_config(tmp_path / "run")[0], split=read_split(tmp_path / "run"))
    assert again.dataset.classes == CLASS_FOLDERS
    assert dict(again.dataset.left_out) == {"rare": 1}


def test_the_demonstration_says_what_it_is() -> None:
    said: list[str] = []
    config = TrainingConfig(budget=Budget(size_bytes=500_000), weights="random")
    prepared = prepare(config, listener=lambda event: said.append(event.text) if isinstance(event, Note) else None)
    assert "Built-in demonstration" in said[0]
    assert prepared.schedule.trainings >= 3
    assert prepared.schedule.limits[-1] == config.budget


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"epochs": 0}, "--epochs"),
        ({"learning_rate": math.nan}, "--lr"),
        ({"rho": 1.0}, "--rho"),
        ({"score": "best"}, "--score"),
        ({"augment": "twist"}, "--augment"),
        ({"augment": "jitter:2"}, "--augment"),
        ({"pruning_epochs": 0}, "--pruning-epochs"),
        ({"pruning_epochs": 1, "warm_up_epochs": 1}, "--warm-up-epochs"),
        ({"clip_norm": 0.0}, "--clip-norm"),
        ({"drop_path": 1.0}, "--drop-path"),
        ({"mixup": -0.1}, "--mixup"),
        ({"cutmix": math.inf}, "--cutmix"),
        ({"label_smoothing": 1.0}, "--label-smoothing"),
        ({"weight_decay": -1.0}, "--weight-decay"),
        ({"min_images": -1}, "--min-images"),
    ],
)
def test_options_that_make_no_sense_are_all_named(tmp_path: Path, changes: dict[str, object], fault: str) -> None:
    with pytest.raises(ConfigError, match=fault) as refused:
        small_config(tmp_path, batch_size=0, **changes)
    assert "--batch-size" in str(refused.value)


def test_the_hash_of_a_configuration_follows_what_decides_the_task(tmp_path: Path) -> None:
    config = small_config(tmp_path)
    assert config.sha256 == small_config(tmp_path, device="auto", skip_bad_images=True).sha256
    assert config.sha256 != small_config(tmp_path, seed=1).sha256


def test_reading_back_what_was_written_gives_the_same_bytes(finished: TrainingReport) -> None:
    assert task_bytes(read_task(finished.task_file)) == finished.task_file.read_bytes()


def test_a_task_of_another_backbone_is_refused(finished: TrainingReport) -> None:
    from mimi_edge.errors import ArtifactError

    with pytest.raises(ArtifactError, match="tiny vit"):
        reference_logits(tiny_backbone("deit"), read_task(finished.task_file))


def test_every_family_trains_to_its_budget(pictures: Path, tmp_path: Path) -> None:
    for family in ("deit", "swin", "swinv2"):
        report = run_training(small_config(pictures, epochs=1, backbone=f"tiny {family}"), tmp_path / family)
        assert_budget_met_exactly(report, 5_000)


@pytest.mark.parametrize("name", ["report.json", "neurons.png"])
def test_what_cannot_be_written_at_the_end_takes_no_result_along(
    finished: TrainingReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished.task_file.parent, folder)
    (folder / "report.json").unlink()

    def full(path: Path, *_: object) -> None:
        raise OSError(28, "No space left on device", str(path))

    def full_for_one(path: Path, document: object) -> None:
        (full if path.name == name else write_json)(path, document)

    with monkeypatch.context() as disk:
        disk.setattr(run_end, "write_json", full_for_one)
        if name == "neurons.png":
            disk.setattr(run_pictures, "draw_neurons_per_site", lambda _neurons, _sites, path, _title: full(path))
        report = resume_training(folder)
    assert report.accuracy == finished.accuracy
    (said,) = report.unwritten
    assert str(folder / name) in said
    assert f"--resume {folder}" in said
    assert resume_training(folder).unwritten == ()
    assert (folder / "report.json").exists()


def test_a_picture_that_there_will_not_be_is_told_before_anything_is_trained(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "find_spec", lambda _: None)
    heard: list[object] = []
    with pytest.raises(StoppedError):
        runs.run_training(small_config(pictures), tmp_path / "run", listener=heard.append, should_stop=lambda: True)
    assert "matplotlib is not installed" in heard[0].text


@pytest.mark.parametrize(("learned", "is_said"), [(0.0, True), (0.01, False)])
def test_a_training_that_taught_nothing_is_said(
    learned: float, is_said: bool, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    most_frequent: list[float] = []

    def accuracy(model: nn.Module, images: DeviceImages, *_: object) -> float:
        most_frequent.append((torch.bincount(images.labels).max() / len(images.labels)).item())
        return most_frequent[-1] + learned

    monkeypatch.setattr(loop, "evaluate", accuracy)
    heard: list[Event] = []
    report = run_training(small_config(pictures, epochs=1), tmp_path / "run", listener=heard.append)
    said = [one.text for one in heard if isinstance(one, Note) and "always saying the most frequent" in one.text]
    assert len(said) == len(report.validation) * is_said
    assert all(f"({most_frequent[0]:.1%})" in text and "lower --lr" in text for text in said)
