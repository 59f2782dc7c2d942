"""The list of what was trained."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from cli_world import Trained, here

from mimi_edge.tasks.files import read_task


@pytest.fixture
def runs(trained: Trained, tmp_path: Path) -> Path:
    """Two finished runs, one that is not, one that nobody can read, and something else."""
    folder = tmp_path / "runs"
    for name in ("old", "new", "begun", "damaged"):
        shutil.copytree(trained.run, folder / name)
    (folder / "notes").mkdir()
    (task,) = (folder / "old").glob("pictures.safetensors")
    os.utime(task, ns=(10**18, 10**18))
    (folder / "begun" / task.name).unlink()
    (folder / "damaged" / "config.json").write_text("{")
    return folder


def test_runs_are_told_newest_first_with_what_their_files_say(runs: Path) -> None:
    outcome = here("runs", runs, "--json").ended(0)
    new, old, begun = outcome.document["runs"]
    assert [Path(one["run"]).name for one in (new, old, begun)] == ["new", "old", "begun"]
    task = runs / "new" / "pictures.safetensors"
    assert new["size_bytes"] == task.stat().st_size
    stored = {name: one.accuracy for name, one in read_task(task).header.accuracy.items()}
    assert new["accuracy"] == pytest.approx(stored, abs=1e-6)
    assert old["finished"].startswith("2001-09-09")
    assert (begun["finished"], begun["size_bytes"], begun["accuracy"]) == (None, None, {})
    assert f"Left aside, as it cannot be read: {runs / 'damaged'}" in outcome.err
    assert f"train --resume {runs / 'begun'}" in outcome.err


def test_the_table_fits_and_says_what_is_not_finished(runs: Path) -> None:
    shown = here("runs", runs).ended(0).out
    assert "3 runs in" in shown
    assert "not finished" in shown
    assert f"{(runs / 'new' / 'pictures.safetensors').stat().st_size:,}" in shown


def test_where_there_is_none_it_says_what_to_run(tmp_path: Path) -> None:
    outcome = here("runs", tmp_path / "none").ended(0)
    assert "Train one first: mimi-edge train --budget-mb 0.5" in outcome.err
    assert json.loads(here("runs", tmp_path / "none", "--json").ended(0).out) == {"runs": []}


@pytest.fixture
def pair(trained: Trained, tmp_path: Path) -> tuple[Path, Path]:
    """A finished run, and one that differs in two settings and is not finished."""
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        shutil.copytree(trained.run, folder)
    config = json.loads((second / "config.json").read_text("utf-8"))
    config |= {"learning_rate": 0.5, "patience": 3}
    (second / "config.json").write_text(json.dumps(config), "utf-8")
    (second / "pictures.safetensors").unlink()
    return first, second


def test_runs_side_by_side_show_what_differs_and_what_came_of_it(pair: tuple[Path, Path]) -> None:
    outcome = here("runs", *pair, "--json").ended(0)
    assert outcome.document["settings_that_differ"] == {"lr": [0.002, 0.5], "patience": [None, 3]}
    first, second = outcome.document["runs"]
    assert first["size_bytes"] == (pair[0] / "pictures.safetensors").stat().st_size
    assert (second["size_bytes"], second["seconds"]) == (None, None)
    shown = here("runs", *pair).ended(0).out
    for said in ("--lr", "0.002", "0.5", "--patience", "not finished", f"{first['size_bytes']:,}"):
        assert said in shown
    assert "--epochs" not in shown


def test_one_run_has_nothing_to_differ_from(pair: tuple[Path, Path]) -> None:
    assert here("runs", pair[0], "--json").ended(0).document["settings_that_differ"] == {}


def test_runs_and_a_folder_of_runs_do_not_go_together(pair: tuple[Path, Path]) -> None:
    outcome = here("runs", pair[0], pair[0].parent).ended(2)
    assert f"of which these are none: {pair[0].parent}" in outcome.err


def test_the_options_that_a_run_keeps_train_the_same_task_again(trained: Trained, tmp_path: Path) -> None:
    here("train", "--config", trained.run / "options.yaml", "--run", tmp_path / "run", "--threads", "1").ended(0)
    assert (tmp_path / "run" / "pictures.safetensors").read_bytes() == trained.task_file.read_bytes()
