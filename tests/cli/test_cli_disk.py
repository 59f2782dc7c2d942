"""A disk that is full: one clear error that names the file, and nothing half-written under a final name."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from cli_world import Packaged, Trained, content, here
from full_disk import room_for

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")


def test_a_checkpoint_that_does_not_fit_stops_the_run_which_can_be_resumed(trained: Trained, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with room_for(50_000):
        outcome = here("train", *trained.options, "--run", run).ended(1)
    assert str(run / "checkpoint.safetensors") in outcome.err
    assert f"mimi-edge train --resume {run}" in outcome.err
    assert "The task after training 1 is not kept" in outcome.err
    assert sorted(content(run)) == ["config.json", "log.csv", "options.yaml", "split.json"]
    here("train", "--resume", run, "--threads", "1").ended(0)
    assert (run / "pictures.safetensors").read_bytes() == trained.task_file.read_bytes()


def test_a_task_that_does_not_fit_leaves_the_last_checkpoint(trained: Trained, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for name in ("config.json", "split.json", "checkpoint.safetensors", "log.csv"):
        shutil.copyfile(trained.run / name, run / name)
    before = content(run)
    with room_for(50_000):
        outcome = here("train", "--resume", run, "--threads", "1").ended(1)
    assert str(run / "pictures.safetensors") in outcome.err
    assert content(run) == before
    here("train", "--resume", run, "--threads", "1").ended(0)
    assert (run / "pictures.safetensors").read_bytes() == trained.task_file.read_bytes()


def test_a_package_that_does_not_fit_is_not_there(trained: Trained, packaged: Packaged, tmp_path: Path) -> None:
    """The backbone's graph is in the cache by now, so it is the copying of its weights that fails."""
    with room_for(1_000_000):
        outcome = here("export", trained.run, "--output", tmp_path / "package").ended(1)
    assert "backbone.weights" in outcome.err
    assert content(tmp_path) == {}
    here("export", trained.run, "--output", tmp_path / "package").ended(0)


@pytest.mark.slow
def test_a_cache_that_does_not_fit_is_named(trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIMI_EDGE_CACHE", str(tmp_path / "cache"))
    with room_for(1_000_000):
        outcome = here("export", trained.run, "--output", tmp_path / "package")
    assert outcome.ended(outcome.code).code in (1, 2)
    assert str(tmp_path / "cache") in outcome.err
    assert not (tmp_path / "package").exists()


def test_a_report_that_does_not_fit_is_named(packaged: Packaged, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    with room_for(100):
        outcome = here("profile", packaged.folder, "--rounds", "2", "--processes", "1", "--report", report).ended(1)
    assert str(report) in outcome.err
    assert "p50 ms" in outcome.out
    assert content(tmp_path) == {}


def test_a_run_folder_that_cannot_be_written_is_named(trained: Trained, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    outcome = here("train", *trained.options, "--run", tmp_path / "file" / "run").ended(1)
    assert str(tmp_path / "file") in outcome.err


def test_a_folder_of_adapters_that_does_not_fit_is_named_and_not_there(packaged: Packaged, tmp_path: Path) -> None:
    before = content(packaged.folder)
    with room_for(1_000_000):
        outcome = here("export", packaged.folder, "--format", "ort-adapter", "--output", tmp_path / "adapters").ended(1)
    assert str(tmp_path / "adapters") in outcome.err.replace("\n", "")
    assert "nothing of it was kept" in " ".join(outcome.err.split())
    assert ".part" not in outcome.err
    assert content(tmp_path) == {}
    assert content(packaged.folder) == before
