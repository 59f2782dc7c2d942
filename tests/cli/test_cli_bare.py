"""`train`, then `export --format trt`, then `profile`, in one folder and with no other argument."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cli_world import Outcome, here
from PIL import Image

sys.path.append(str(Path(__file__).parents[1] / "export" / "engines"))

import fake_runtime
from tiny_package import CLASSES, SIZE, make_backbone, make_task

from mimi_edge.budgets import Budget
from mimi_edge.choices import Backend
from mimi_edge.cli.profiled import profiled
from mimi_edge.export import from_runs
from mimi_edge.images.dataset import load_dataset, split_document
from mimi_edge.tasks.files import write_task
from mimi_edge.training.config import CONFIG_FILE, SPLIT_FILE, TrainingConfig, config_document


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, where the tiny backbone stands for any."""
    backbone = make_backbone(tmp_path / "exported")
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setattr(from_runs, "_loaded_backbone", lambda *_: None)
    monkeypatch.setattr(from_runs, "_graph_folder", lambda *_: backbone)
    monkeypatch.setattr("mimi_edge.training.references.reference_logits", lambda *_: None)
    _write_images(tmp_path / "images")
    return work


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch):
    made = fake_runtime.install(monkeypatch, "10.15")
    yield made.gpu
    made.gpu.check()


def _write_images(data: Path) -> None:
    random = np.random.default_rng(5)
    for name in CLASSES:
        (data / name).mkdir(parents=True)
        for index in range(8):
            pixels = random.integers(0, 256, (SIZE, SIZE, 3), np.uint8)
            Image.fromarray(pixels).save(data / name / f"{index}.png")


def write_run(folder: Path, name: str = "digits", neurons: tuple[int, ...] = (3, 0, 1), *, minute: int = 0) -> Path:
    """A finished run of the images beside the folder that is worked in."""
    folder.mkdir(parents=True)
    data = Path("../images").resolve()
    config = TrainingConfig(Budget(size_bytes=500_000), name=name, data=str(data))
    split = split_document(load_dataset(data, seed=config.seed))
    (folder / CONFIG_FILE).write_text(json.dumps(config_document(config) | {"start": None}))
    (folder / SPLIT_FILE).write_text(json.dumps(split))
    task = make_task(name, neurons)
    task = replace(task, header=replace(task.header, classes=tuple(sorted(CLASSES)), accuracy={}))
    write_task(task, folder / f"{name}.safetensors")
    os.utime(folder / f"{name}.safetensors", (1_700_000_000 + 60 * minute,) * 2)
    return folder


def last_line(outcome: Outcome) -> str:
    return outcome.err.splitlines()[-1]


def built(outcome: Outcome) -> list[str]:
    document = outcome.document["packages"]
    return [engine["name"] for engines in document.values() for engine in engines]


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_three_commands_bare(folder: Path, gpu: object) -> None:
    write_run(Path("runs/digits"))
    exported = here("export", "--format", "trt", "--json").ended(0)
    assert "Taking the run runs/digits." in exported.err
    assert "no package in package yet" in exported.err
    assert built(exported) == ["per-task.digits.fp16"]
    assert [list(one["tasks"]) for one in exported.document["packaged"]] == [["digits"]]
    check = exported.document["packages"]["package"][0]["check"]
    assert check["outputs"]["digits"]["images"] == 3  # the run's test split
    assert last_line(exported) == "Next: mimi-edge profile"
    chosen = profiled([], [], backend=None, data=None)
    assert (chosen.sources, chosen.runs, chosen.backend) == (
        (Path("package"),),
        (Path("runs/digits"),),
        Backend.TRT,
    )


def test_profile_bare_measures_the_package_and_its_test_split(folder: Path) -> None:
    write_run(Path("runs/digits"))
    exported = here("export").ended(0)
    assert last_line(exported) == "Next: mimi-edge profile"
    done = here("profile", "--rounds", "2", "--json").ended(0)
    assert "Taking the package package." in done.err
    assert "Taking the test split of runs/digits for the accuracy of digits." in done.err
    assert [one["name"] for one in done.document["artefacts"]] == ["backbone", "digits"]
    assert done.document["artefacts"][1]["accuracy"]["images"] == 3
    assert last_line(done) == "Next: mimi-edge ledger package"


def test_a_package_that_holds_the_run_is_not_made_again(folder: Path, gpu: object) -> None:
    write_run(Path("runs/digits"))
    here("export").ended(0)
    before = {path: path.stat().st_mtime_ns for path in Path("package").iterdir()}
    done = here("export", "--format", "trt", "--json").ended(0)
    assert "holds digits as trained" in done.err
    assert done.document["packaged"] == []
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize("name", ["digits", "other"])
def test_a_package_that_is_older_than_the_run_gets_it_first(name: str, folder: Path, gpu: object) -> None:
    write_run(Path("runs/first"))
    here("export").ended(0)
    newest = write_run(Path("runs/second"), name, (1, 2, 2), minute=1)
    done = here("export", "--format", "trt", "--json").ended(0)
    assert "The package package is older" in done.err
    packaged = Path("package") / f"{name}.safetensors"
    assert packaged.read_bytes() == (newest / f"{name}.safetensors").read_bytes()
    # An engine that was built of what was replaced would be stale, so all tasks of the package get theirs.
    assert sorted(built(done)) == sorted({f"per-task.{task}.fp16" for task in ("digits", name)})


def test_a_run_or_a_task_file_that_is_named_is_put_into_the_package_first(folder: Path, gpu: object) -> None:
    first = write_run(Path("elsewhere/first"))
    write_run(Path("runs/newest"), "newest", minute=5)
    done = here("export", first, "--format", "trt", "--json", "--output", "box").ended(0)
    assert built(done) == ["per-task.digits.fp16"]
    assert last_line(done) == "Next: mimi-edge profile box --run elsewhere/first --backend trt"
    shutil.copyfile(first / "digits.safetensors", "alone.safetensors")
    done = here("export", "alone.safetensors", "--format", "ort-adapter", "--json").ended(0)
    assert list(done.document["tasks"]) == ["digits"]
    assert files(folder) == ["adapters", "alone.safetensors", "box", "elsewhere", "package", "runs"]


def test_a_package_that_is_named_is_taken_as_it_is(folder: Path, gpu: object) -> None:
    here("export", write_run(Path("elsewhere/first")), "--output", "box").ended(0)
    write_run(Path("runs/newest"), "newest", minute=5)
    done = here("export", "box", "--format", "trt", "--json").ended(0)
    assert built(done) == ["per-task.digits.fp16"]
    assert not Path("package").exists()
    refused = here("export", "box", "--format", "trt", "--weights", "random").ended(2)
    assert "--weights is of onnx" in refused.err


def test_where_the_runs_are_not_the_package_that_came_is_taken(folder: Path, gpu: object) -> None:
    here("export", write_run(Path("elsewhere/first"))).ended(0)
    done = here("export", "--format", "trt", "--json").ended(0)
    assert "Taking the package package." in done.err
    assert built(done) == ["per-task.digits.fp16"]


def test_without_tensorrt_the_package_is_made_and_nothing_half_is_left(folder: Path) -> None:
    write_run(Path("runs/digits"))
    refused = here("export", "--format", "trt", "--backend", "trt").ended(1)
    assert "The package package is made, and stays" in refused.err
    assert "TensorRT is not installed" in refused.err.splitlines()[-2] + refused.err.splitlines()[-1]
    assert "Package package" in refused.out
    assert files(Path("package")) == [
        "backbone.onnx",
        "backbone.weights",
        "digits.onnx",
        "digits.safetensors",
        "manifest.json",
    ]
    here("verify", "package").ended(0)


def test_options_that_contradict_each_other_are_refused_before_anything_is_made(folder: Path) -> None:
    write_run(Path("runs/digits"))
    assert "mixed batches need" in here("export", "--format", "trt", "--mixed").ended(2).err
    run = Path("runs/digits")
    here("export", run, "--output", "box").ended(0)
    assert "one package at a time" in here("export", "box", run, "--format", "ort-adapter").ended(2).err
    assert files(folder) == ["box", "runs"]


@pytest.mark.parametrize(
    ("command", "first"),
    [
        (("export",), "mimi-edge train --budget-mb 0.5"),
        (("export", "--format", "trt"), "mimi-edge train --budget-mb 0.5"),
        (("export", "--format", "ort-adapter"), "mimi-edge train --budget-mb 0.5"),
        (("profile",), "mimi-edge train --budget-mb 0.5, then mimi-edge export"),
    ],
)
def test_where_there_is_nothing_to_take_it_says_what_to_run_first(
    command: tuple[str, ...], first: str, folder: Path
) -> None:
    outcome = here(*command).ended(2)
    assert first in outcome.err
    assert outcome.out == ""
    assert files(folder) == []


def test_images_that_are_gone_are_said_and_the_rest_is_measured(folder: Path) -> None:
    write_run(Path("runs/digits"))
    here("export").ended(0)
    shutil.rmtree("../images")
    chosen = profiled([], [], backend=None, data=None)
    assert (chosen.runs, chosen.backend) == ((), Backend.ORT_CPU)
