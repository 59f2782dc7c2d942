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
