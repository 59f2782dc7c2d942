"""Export refuses what does not answer as it was trained, and says what it could not check."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_world import SMALL, Packaged, Trained, content, here

from mimi_edge.tasks.files import read_task, write_task
from mimi_edge.training.backbones import load_backbone
from mimi_edge.training.config import ANSWERS_FILE
from mimi_edge.training.recorded_answers import read_answers, write_answers


@pytest.fixture
def run(trained: Trained, tmp_path: Path) -> Path:
    """A copy of the run."""
    copy = tmp_path / "run"
    shutil.copytree(trained.run, copy)
    return copy


def test_a_task_whose_weights_were_changed_after_training_is_not_published(run: Path, tmp_path: Path) -> None:
    path = run / "pictures.safetensors"
    task = read_task(path)
    wrong = {name: (-values if name.startswith("head.") else values) for name, values in task.tensors.items()}
    shares = {split: replace(value, accuracy=1.0) for split, value in task.header.accuracy.items()}
    write_task(replace(task, header=replace(task.header, accuracy=shares), tensors=wrong), path)
    said = here("export", run, "--output", tmp_path / "package").ended(5).err
    assert "near-ties" in said
    assert sorted(one.name for one in tmp_path.iterdir()) == ["run"]


def test_an_existing_package_stays_as_it_was_when_a_task_is_refused(
    run: Path, packaged: Packaged, tmp_path: Path
) -> None:
    package = tmp_path / "package"
    shutil.copytree(packaged.folder, package)
    before = content(package)
    path = run / "pictures.safetensors"
    task = read_task(path)
    wrong = {split: replace(value, accuracy=1 - value.accuracy) for split, value in task.header.accuracy.items()}
    write_task(replace(task, header=replace(task.header, accuracy=wrong)), path)
    here("export", run, "--output", package).ended(5)
    assert content(package) == before


def test_other_backbone_weights_are_refused(trained: Trained, tmp_path: Path) -> None:
    said = here("export", trained.task_file, "--weights", tmp_path / "no.safetensors", "--output", tmp_path / "p")
    assert "no.safetensors" in said.ended(4).err
    from safetensors.torch import save_file

    from mimi_edge.training.backbones import load_backbone

    weights = tmp_path / "other.safetensors"
    save_file(
        {
            name: value.contiguous()
            for name, value in load_backbone("builtin", "random", seed=1).module.state_dict().items()
        },
        weights,
    )
    refused = here("export", trained.run, "--weights", weights, "--output", tmp_path / "p").ended(4).err
    assert "--weights" in refused
    assert not (tmp_path / "p").exists()


@pytest.fixture
def package(packaged: Packaged, tmp_path: Path) -> Path:
    """A copy of the package, which has the backbone."""
    copy = tmp_path / "package"
    shutil.copytree(packaged.folder, copy)
    return copy


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the backbones that were loaded into torch since."""
    names: list[str] = []

    def noted(name: str, *arguments: Any, **named: Any) -> Any:
        names.append(name)
        return load_backbone(name, *arguments, **named)

    monkeypatch.setattr("mimi_edge.training.backbones.load_backbone", noted)
    return names


def test_what_torch_answered_in_training_is_what_a_further_export_is_held_against(
    run: Path, package: Path, loads: list[str]
) -> None:
    (exported,) = here("export", run, "--output", package, "--json").ended(0).document["tasks"].values()
    assert not loads
    assert exported["check"]["outputs"]["images"] == exported["check"]["outputs"]["same_top1"] > 0
    recorded = read_answers(run / ANSWERS_FILE)
    assert recorded is not None
    write_answers(replace(recorded, logits=-recorded.logits), run / ANSWERS_FILE)
    before = content(package)
    assert "does not answer what" in here("export", run, "--output", package).ended(5).err
    assert content(package) == before


@pytest.mark.parametrize("spoil", ["none", "damaged", "other task", "other images"])
def test_torch_answers_where_nothing_usable_was_recorded(
    run: Path, package: Path, loads: list[str], spoil: str
) -> None:
    recorded = read_answers(run / ANSWERS_FILE)
    assert recorded is not None
    wrong = replace(recorded, logits=-recorded.logits)
    if spoil == "other task":
        write_answers(replace(wrong, task_sha256="0" * 64), run / ANSWERS_FILE)
    elif spoil == "other images":
        write_answers(replace(wrong, pixels_sha256="0" * 64), run / ANSWERS_FILE)
    elif spoil == "damaged":
        (run / ANSWERS_FILE).write_bytes((run / ANSWERS_FILE).read_bytes()[:-9])
    else:
        (run / ANSWERS_FILE).unlink()
    here("export", run, "--output", package).ended(0)
    assert loads == ["builtin"]


@pytest.mark.slow
def test_a_task_of_another_backbone_does_not_join_a_package(
    trained: Trained, packaged: Packaged, tmp_path: Path
) -> None:
    command = ("train", "--data", trained.data, *SMALL, "--budget-mb", "0.02", "--seed", "1", "--name", "other")
    here(*command, "--run", tmp_path / "other").ended(0)
    before = content(packaged.folder)
    said = here("export", tmp_path / "other", "--output", packaged.folder).ended(4).err
    assert "one backbone" in said
    assert content(packaged.folder) == before
    together = here("export", tmp_path / "other", trained.run, "--output", tmp_path / "p").ended(4).err
    assert "one backbone" in together
    assert not (tmp_path / "p").exists()


def test_without_data_the_accuracy_is_said_to_be_unchecked(
    trained: Trained, packaged: Packaged, tmp_path: Path
) -> None:
    alone = tmp_path / "alone.safetensors"
    shutil.copyfile(trained.task_file, alone)
    command = ("export", alone, "--weights", "random", "--output", tmp_path / "p", "--json")
    outcome = here(*command).ended(0)
    assert "accuracy cannot be checked" in outcome.err
    check = outcome.document["tasks"]["pictures"]["check"]
    assert check["accuracy"].startswith("not run")
    assert check["outputs"]["kind"] == "random noise"


def test_data_with_other_classes_is_refused(trained: Trained, tmp_path: Path) -> None:
    command = ("export", trained.run, "--data", "builtin:digits", "--output", tmp_path / "p")
    assert "--data" in here(*command).ended(2).err
    assert not (tmp_path / "p").exists()


def test_data_that_is_gone_is_named(run: Path, tmp_path: Path) -> None:
    config = run / "config.json"
    config.write_text(config.read_text().replace("/pictures", "/vanished"))
    assert "vanished" in here("export", run, "--output", tmp_path / "p").ended(2).err
    assert not (tmp_path / "p").exists()


def test_weights_that_are_not_finite_are_rejected(run: Path, tmp_path: Path) -> None:
    from safetensors import safe_open
    from safetensors.numpy import save_file

    path = run / "pictures.safetensors"
    with safe_open(path, "np") as opened:
        metadata = opened.metadata()
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  (no dict)
    tensors["head.bias"] = np.full_like(tensors["head.bias"], np.nan)
    save_file(tensors, path, metadata)
    assert "head.bias" in here("export", run, "--output", tmp_path / "p").ended(4).err
