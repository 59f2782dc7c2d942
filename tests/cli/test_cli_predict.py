"""`predict` for more than one picture: what can be named, where answers go, and what becomes of those without one."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_world import Trained, here
from nan_graph import answers_nan_in_the_dark
from PIL import Image
from tiny_package import CLASSES, make_package
from typer.testing import CliRunner

import mimi_edge
from mimi_edge.cli.app import app

SHADES = {"a/0.png": 200, "a/b/1.jpg": 150, "a/b/2.png": 230, "3.png": 180}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package, and a folder of pictures beside it, where the command runs."""
    make_package(tmp_path, {"few": (1, 2, 1)})
    for name, shade in SHADES.items():
        path = tmp_path / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((5, 6, 3), shade, np.uint8)).save(path)
    (tmp_path / "pictures/a/notes.txt").write_text("no picture")
    monkeypatch.chdir(tmp_path)
    return tmp_path


IN_ORDER = ["pictures/3.png", "pictures/a/0.png", "pictures/a/b/1.jpg", "pictures/a/b/2.png"]


def paths(outcome) -> list[str]:
    return [one["path"] for one in outcome.document["predictions"]]


def test_a_folder_is_its_images_with_all_below(place):
    outcome = here("predict", "package", "pictures", "--json").ended(0)
    assert paths(outcome) == IN_ORDER
    assert "1 file that cannot be read as images: 1 x .txt" in outcome.err


def test_quoted_patterns_are_what_the_shell_would_give(place):
    assert paths(here("predict", "package", "pictures/a/b/*", "--json").ended(0)) == IN_ORDER[2:]
    found = paths(here("predict", "package", "pictures/**/*.png", "--json").ended(0))
    assert sorted(found) == [name for name in IN_ORDER if name.endswith(".png")]
    odd = place / "pictures" / "[1].png"
    (place / "pictures/3.png").rename(odd)
    assert paths(here("predict", "package", odd, "--json").ended(0)) == [str(odd)]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\0"])
def test_lists_come_from_files_and_from_stdin(place, end):
    content = end.join(["pictures/3.png", "", "pictures/a"]).encode()
    (place / "list.txt").write_bytes(b"\xef\xbb\xbf" + content)
    wanted = IN_ORDER
    assert paths(here("predict", "package", "--from", "list.txt", "--json").ended(0)) == wanted
    assert paths(here("predict", "package", "@list.txt", "--json").ended(0)) == wanted
    assert paths(here("predict", "@list.txt", "--json").ended(0)) == wanted
    for arguments in (["package", "-"], ["-"], ["package", "--from", "-"], ["--from", "-"]):
        result = CliRunner().invoke(app, ["predict", *arguments, "--json"], input=content)
        assert [one["path"] for one in json.loads(result.stdout)["predictions"]] == wanted


def test_the_package_that_is_here_is_taken_and_said(place):
    outcome = here("predict", "pictures/a", "pictures/3.png", "--json").ended(0)
    assert paths(outcome) == [*IN_ORDER[1:], IN_ORDER[0]]
    assert "Taking the package package." in outcome.err
    assert paths(here("predict", "pictures/3.png", "gone.jpg", "--json").ended(1)) == IN_ORDER[:1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "Which images?"),
        (("package",), "Which images shall package look at?"),
        (("pakage", "pictures"), "pakage is not there. Expected a package"),
        (("https://example.org/cat.jpg",), "is a URL. Fetch it first"),
        (("package", "s3://bucket/cat.jpg"), "is a URL. Fetch it first"),
        (("package", "empty"), "There are no images in empty"),
        (("package", "pictures/*.heif"), "Nothing here is called like pictures/*.heif"),
        (("package", "@nowhere.txt"), "Cannot read the list nowhere.txt"),
        (("package", "pictures", "--output", "x.txt"), ".csv or .jsonl"),
        (("package", "pictures", "--output", "nowhere/x.csv"), "its folder does not exist"),
        (("package", "pictures", "--top", "0"), "--top"),
        (("package", "pictures", "--batch", "0"), "--batch"),
        (("robot.mimi", "pictures"), "mimi-edge install-task robot.mimi package"),
        (("package/few.onnx", "pictures", "--task", "other"), "own task"),
        (("package/few.safetensors", "pictures", "--task", "other"), "the task 'few' alone"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_next_step(place, arguments, said):
    (place / "empty").mkdir()
    (place / "robot.mimi").write_bytes(b"")
    outcome = here("predict", *arguments).ended(2)
    assert said in outcome.err
    assert outcome.out == ""


def test_where_nothing_is_answered_there_is_no_table(place):
    outcome = here("predict", "package", "gone.jpg").ended(1)
    assert outcome.out == ""
    assert "Left out gone.jpg: No such file or directory" in outcome.err


def test_without_a_package_the_message_says_what_to_run_first(place):
    (place / "package").rename(place / "other")
    assert "mimi-edge export" in here("predict", "pictures").ended(2).err


def test_a_task_file_of_a_package_is_that_packages_task(place):
    by_file = here("predict", "package/few.safetensors", "pictures", "--json").ended(0)
    assert by_file.document == here("predict", "package", "pictures", "--json").ended(0).document


def test_a_table_that_is_piped_breaks_no_path(place):
    deep = place / "pictures" / "/".join(["a long name with spaces"] * 8)
    deep.mkdir(parents=True)
    (place / "pictures/3.png").rename(deep / "3.png")
    said = here("predict", "package", deep, "--top", "2").ended(0).out
    (line,) = [line for line in said.splitlines() if "3.png" in line]
    assert str(deep / "3.png") in line
    assert line.count("%") == 2


@pytest.mark.parametrize("top", [1, 2, 7])
def test_as_many_classes_as_are_asked_for(place, top):
    (one,) = here("predict", "package", "pictures/3.png", "--top", str(top), "--json").ended(0).document["predictions"]
    assert len(one["top"]) == min(top, len(CLASSES))
    assert here("predict", "package", "pictures/3.png", "--top", str(top)).ended(0).out.count("%") == len(one["top"])


def test_answers_are_the_same_whatever_the_batch(place):
    one, four = (here("predict", "package", "pictures", "--batch", n, "--json").ended(0).document for n in "14")
    for a, b in zip(one["predictions"], four["predictions"], strict=True):
        assert (a["path"], a["label"]) == (b["path"], b["label"])
        assert a["probability"] == pytest.approx(b["probability"], rel=1e-5)


def test_a_csv_file_has_one_heading_and_a_line_for_every_image(place):
    (place / "pictures/a/0.png").write_bytes(b"")
    expected = here("predict", "package", "pictures", "--json").ended(1).document
    outcome = here("predict", "package", "pictures", "--output", "x.csv", "--json").ended(1)
    assert outcome.document == {"output": "x.csv", "answers": 3, "unusable": expected["unusable"]}
    rows = list(csv.DictReader((place / "x.csv").open(newline="")))
    assert [row["image"] for row in rows] == IN_ORDER
    assert [row["error"] for row in rows] == ["", "an empty file", "", ""]
    good = [row for row in rows if not row["error"]]
    for row, one in zip(good, expected["predictions"], strict=True):
        assert (row["task"], row["class"]) == ("few", one["label"])
        assert float(row["probability_3"]) == pytest.approx(one["top"][2][1], rel=1e-5)
        assert row["class_5"] == ""
    here("predict", "package", "pictures", "--output", "x.csv", "--top", "1").ended(1)
    assert (place / "x.csv").read_text().splitlines()[0] == "image,task,class,probability,error"


def test_a_jsonl_file_has_an_object_a_line(place):
    expected = here("predict", "package", "pictures", "gone.png", "--json").ended(1).document
    said = here("predict", "package", "pictures", "gone.png", "--output", "x.jsonl").ended(1)
    lines = [json.loads(line) for line in (place / "x.jsonl").read_text().splitlines()]
    assert [line["image"] for line in lines] == [*IN_ORDER, "gone.png"]
    assert [line.get("top") for line in lines[:4]] == [one["top"] for one in expected["predictions"]]
    assert lines[4] == {"image": "gone.png", "error": "No such file or directory"}
    assert "4 answers: x.jsonl" in said.err


def test_what_was_answered_survives_ctrl_c(place):
    """The list comes through a pipe that stays open, with images enough that answers are written meanwhile."""
    script = """
import sys
from mimi_edge.export import prediction
through = prediction._answered
def slow(task, together, *rest):
    if together[0][0].name == "2.png":
        import os, signal
        os.kill(os.getpid(), signal.SIGINT)
    yield from through(task, together, *rest)
prediction._answered = slow
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from mimi_edge.cli.main import main
main()
"""
    arguments = ["predict", "package", "pictures", "--batch", "1", "--output", "x.csv"]
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr
    assert "3 lines are in x.csv" in done.stderr
    rows = list(csv.DictReader((place / "x.csv").open(newline="")))
    assert [row["image"] for row in rows] == IN_ORDER[:3]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_names_the_file_and_what_is_in_it(place):
    (place / "x.csv").symlink_to("/dev/full")
    assert "x.csv" in here("predict", "package", "pictures", "--output", "x.csv").ended(1).err


def test_an_answer_that_is_not_finite_is_no_class(place):
    """The others are answered, the exit code tells, and every JSON document is one."""
    graph = answers_nan_in_the_dark(place / "package" / "few.onnx")
    Image.fromarray(np.full((5, 6, 3), 20, np.uint8)).save(place / "pictures/a/0.png")
    outcome = here("predict", graph, "pictures", "--json").ended(1)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    document = json.loads(outcome.out, parse_constant=refuse)
    assert [one["path"] for one in document["predictions"]] == [IN_ORDER[0], *IN_ORDER[2:]]
    assert list(document["unusable"]) == ["pictures/a/0.png"]
    assert "not finite" in document["unusable"]["pictures/a/0.png"]
    assert "1 of 4 images could not be used" in outcome.err
    table = here("predict", graph, "pictures").ended(1)
    assert "nan%" not in table.out
    assert table.out.count("pictures/") == 3
    here("predict", graph, "pictures", "--output", "x.jsonl").ended(1)
    lines = [json.loads(line, parse_constant=refuse) for line in (place / "x.jsonl").read_text().splitlines()]
    assert ["error" in line for line in lines] == [False, True, False, False]


def test_a_run_is_answered_by_torch_as_its_package_would(trained: Trained, tmp_path, monkeypatch):
    images = sorted(trained.data.rglob("0.png"))
    by_run = here("predict", trained.run, *images, "--json").ended(0)
    by_file = here("predict", trained.task_file, *images, "--json").ended(0)
    assert by_run.document == by_file.document
    assert "torch answers" in by_run.err
    here("export", trained.run, "--output", tmp_path / "package").ended(0)
    by_package = here("predict", tmp_path / "package", *images, "--json").ended(0).document
    for a, b in zip(by_run.document["predictions"], by_package["predictions"], strict=True):
        assert a["label"] == b["label"]
        assert a["probability"] == pytest.approx(b["probability"], rel=1e-3)
    said = here("predict", trained.run, *images, "--backend", "ort-cpu").ended(2).err
    assert "mimi-edge export" in said


def test_a_run_without_torch_names_the_next_step(trained: Trained, monkeypatch):
    from mimi_edge.export.serving import lone_tasks

    monkeypatch.setattr(lone_tasks, "find_spec", lambda name: None)
    said = here("predict", trained.run, trained.data).ended(1).err
    assert "mimi-edge export" in said
    assert "--output package" in said


def test_python_m_is_the_command_line(tmp_path):
    program = [sys.executable, "-m", "mimi_edge", "--version"]
    done = subprocess.run(program, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip() == mimi_edge.__version__
