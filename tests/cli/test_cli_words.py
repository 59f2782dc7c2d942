"""What is mistyped is answered in words: what was expected, and what it got."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli_world import SMALL, Packaged, Trained, here, write_pictures
from PIL import Image
from typer.testing import CliRunner

from mimi_edge.cli.app import app
from mimi_edge.training.supported import similar_names, supported_names


def _words(*arguments: str) -> str:
    """What is said, without the frame around it."""
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "80", "TERMINAL_WIDTH": "80"})
    assert result.exit_code == 2
    return " ".join(result.stderr.replace("\u2502", " ").split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("train", "--budget-mb", "0,5"), "expected a number with a point: 0.5, got '0,5'"),
        (("train", "--budget-mb", "0.5MB"), "expected a number such as 0.5, without a unit, got '0.5MB'"),
        (("train", "--budget-mb", "much"), "expected a number such as 0.5, got 'much'"),
        (("train", "--epochs", "1.5"), "expected a whole number, got '1.5'"),
        (("predict", "x", "--top", "0"), "must be at least 1, got 0"),
        (("export", "--max-accuracy-drop", "2"), "must be at most 1.0, got 2"),
        (("export", "--format", "onx"), "'--format': 'onx' is not one of 'onnx'"),
    ],
)
def test_a_value_that_an_option_cannot_take(arguments: tuple[str, ...], said: str) -> None:
    assert said in _words(*arguments)


def test_a_terse_name_of_a_backbone_finds_those_that_begin_with_it() -> None:
    assert similar_names("swin_tiny")[0] == "swin_tiny_patch4_window7_224"
    assert len(similar_names("vit_base")) == 6
    assert all(similar_names(name)[0] == name for name in supported_names())
    assert similar_names("") == []


def test_weights_that_are_not_there_are_named_once(tmp_path: Path) -> None:
    data = write_pictures(tmp_path / "pictures")
    options = ("--backbone", "builtin", "--weights", str(tmp_path / "gone.safetensors"), "--budget-mb", "0.1")
    said = here("train", "--data", data, *options).ended(4).err
    assert "gone.safetensors: No such file or directory. Expected a safetensors file" in said
    assert "Errno" not in said


def test_data_under_a_name_that_is_no_unicode_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = os.fsdecode(b"ph\xe9tos")
    said = here("train", "--data", data, "--name", "photos", *SMALL, "--budget-mb", "0.1").ended(2).err
    assert "--data must be valid Unicode, or the run could not be resumed" in said
    assert "make a link to it under another name" in said
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("command", [("verify",), ("inspect",), ("install-task",)])
def test_an_archive_that_is_a_pipe_is_said_to_be_one(command: tuple[str, ...], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "robot.mimi")
    package = [tmp_path / "package"] if command == ("install-task",) else []
    said = here(*command, tmp_path / "robot.mimi", *package).ended(4).err
    assert "it is a pipe, no regular file" in said
    assert "There is no file" not in said


@pytest.mark.parametrize("command", ["verify", "pack", "profile"])
def test_a_run_in_place_of_a_package(command: str, trained: Trained) -> None:
    said = here(command, trained.run).ended(4).err
    assert "is the folder of a run, not a package. Put its task into one: mimi-edge export" in said


def test_one_path_for_install_task_gets_an_example() -> None:
    assert "got a.mimi. For instance: mimi-edge install-task a.mimi package" in _one_line(
        here("install-task", "a.mimi").ended(2).err
    )


def _one_line(text: str) -> str:
    return " ".join(text.split())


def test_data_with_more_classes_than_the_task_names_the_run(
    trained: Trained, packaged: Packaged, tmp_path: Path
) -> None:
    data = write_pictures(tmp_path / "pictures")
    (data / "rare").mkdir()
    Image.new("RGB", (8, 8)).save(data / "rare" / "1.png")
    said = _one_line(here("profile", packaged.folder, "--data", data).ended(2).err)
    assert "If training left the others out, with --min-images, its run folder knows it" in said
    assert "give that, as --run RUN instead of --data" in said


@pytest.mark.parametrize("as_json", [False, True])
def test_too_little_memory_to_say_so_is_said_all_the_same(as_json: bool) -> None:
    program = """
import mimi_edge.cli.app as module
from mimi_edge.cli.main import main
def app(**_):
    raise SystemError("<function command> returned NULL without setting an exception")
module.app = app
main()
"""
    options = ["--json"] if as_json else []
    ended = subprocess.run([sys.executable, "-c", program, *options], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr == "Error: There is not enough memory to begin.\n"
    assert ended.stdout == "" if not as_json else json.loads(ended.stdout)["error"]["kind"] == "memory"
