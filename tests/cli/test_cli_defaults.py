"""What a command takes when it is told nothing, and what it says where there is nothing to take."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from mimi_edge.budgets import Budget
from mimi_edge.cli.defaults import default_package, newest_run, package_or_default, runs_in, say_next
from mimi_edge.errors import ConfigError
from mimi_edge.training.config import CONFIG_FILE, TrainingConfig, config_document


@pytest.fixture(autouse=True)
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_run(folder: str, *, finished_s: int | None, name: str = "digits") -> Path:
    """A run folder, finished so many seconds after 2001, or not at all."""
    run = Path(folder)
    run.mkdir(parents=True)
    config = TrainingConfig(Budget(size_bytes=500_000), name=name)
    (run / CONFIG_FILE).write_text(json.dumps(config_document(config) | {"start": None}))
    if finished_s is not None:
        task_file = run / f"{name}.safetensors"
        task_file.write_bytes(b"a task")
        os.utime(task_file, (1_000_000_000 + finished_s,) * 2)
    return run


def test_the_newest_finished_run_is_taken_and_said(capfd: pytest.CaptureFixture[str]) -> None:
    write_run("runs/a", finished_s=30)
    newest = write_run("runs/b", finished_s=50)
    write_run("runs/c", finished_s=40)
    write_run("runs/half done", finished_s=None)
    assert newest_run() == newest
    said = capfd.readouterr()
    assert said.out == ""
    assert "Taking the run runs/b, the newest of 3 finished runs." in said.err
    assert "Not finished, so left aside: runs/half done." in said.err


def test_when_it_was_finished_counts_and_not_its_name_or_folder() -> None:
    newest = write_run("runs/a", finished_s=9)
    write_run("runs/z", finished_s=1)
    os.utime("runs/z")
    assert [run.folder for run in runs_in()] == [newest, Path("runs/z")]


def test_what_is_no_run_is_left_aside(capfd: pytest.CaptureFixture[str]) -> None:
    good = write_run("runs/good", finished_s=1)
    Path("runs/notes").mkdir()
    Path("runs/file").write_text("a file")
    bad = write_run("runs/bad", finished_s=5)
    (bad / CONFIG_FILE).write_text("{")
    assert newest_run() == good
    assert "runs/bad" in capfd.readouterr().err


def test_where_there_is_no_run_it_says_what_to_run_first() -> None:
    with pytest.raises(ConfigError, match=r"no finished run in runs/ here.*mimi-edge train --budget-mb 0\.5"):
        newest_run()


def test_where_no_run_is_finished_it_says_how_to_go_on() -> None:
    write_run("runs/half done", finished_s=None)
    with pytest.raises(ConfigError, match=r"mimi-edge train --resume 'runs/half done'"):
        newest_run()


def test_the_package_is_taken_and_said(capfd: pytest.CaptureFixture[str]) -> None:
    Path("package").mkdir()
    Path("package/manifest.json").write_text("{}")
    assert default_package() == Path("package")
    assert "Taking the package package." in capfd.readouterr().err
    assert package_or_default(Path("other")) == Path("other")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("finished", "first"), [(None, "mimi-edge train --budget-mb 0.5, then"), (1, "first: mimi-")])
def test_without_a_package_it_says_what_to_run_first(finished: int | None, first: str) -> None:
    if finished is not None:
        write_run("runs/digits", finished_s=finished)
    Path("package").mkdir()  # an empty folder is no package
    with pytest.raises(ConfigError, match=r"mimi-edge export") as told:
        package_or_default(None)
    assert first in str(told.value)


def test_the_next_command_is_one_line_that_a_shell_reads_back(capfd: pytest.CaptureFixture[str]) -> None:
    say_next("mimi-edge", "export", Path("runs/my photos'" + "x" * 120))
    said = capfd.readouterr().err
    assert said == "Next: mimi-edge export 'runs/my photos'\"'\"'" + "x" * 120 + "'\n"
