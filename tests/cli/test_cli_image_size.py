"""One size from training to the answer."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_world import SMALL, Packaged, here

from mimi_edge.images.image_size import ImageSize
from mimi_edge.tasks.files import read_task

VIT = ("--backbone", "vit_tiny_patch16_224", "--budget-mb", "0.05")
"""Exported in half of the time that the built-in one takes."""


@pytest.fixture(scope="module")
def run(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of images smaller than the backbone's."""
    folder = tmp_path_factory.mktemp("sized") / "run"
    options = ("--data", pictures, *SMALL, *VIT, "--image-size", "64", "--name", "sized")
    outcome = here("train", *options, "--run", folder).ended(0)
    assert "which sees 64 x 64 pixels" in outcome.err
    return folder


def test_the_task_its_package_and_its_profile_have_the_run_s_size(run: Path, pictures: Path, tmp_path: Path) -> None:
    assert read_task(run / "sized.safetensors").header.preprocessing.size == ImageSize(64, 64)
    package = tmp_path / "package"
    here("export", run, "--output", package).ended(0)
    assert here("inspect", package / "sized.onnx", "--json").ended(0).document["preprocessing"]["size"] == 64
    for backend in ("ort-cpu", "torch"):
        options = ("--backend", backend, "--run", run, "--rounds", "3", "--processes", "1", "--json")
        report = here("profile", package, *options).ended(0).document
        assert [one["failure"] for one in report["artefacts"]] == [None, None]
    images = sorted(pictures.rglob("*.png"))[:3]
    assert len(here("predict", package, *images, "--json").ended(0).document["predictions"]) == 3


def test_images_that_are_no_squares_go_all_the_way(pictures: Path, tmp_path: Path) -> None:
    run, package = tmp_path / "run", tmp_path / "package"
    options = ("--data", pictures, *SMALL, *VIT, "--image-size", "32x48", "--name", "wide")
    assert "which sees 32 x 48 pixels" in here("train", *options, "--run", run).ended(0).err
    assert read_task(run / "wide.safetensors").header.preprocessing.size == ImageSize(32, 48)
    assert "image-size: 32x48" in (run / "options.yaml").read_text("utf-8")
    (line,) = here("runs", tmp_path, "--json").ended(0).document["runs"]
    assert line["image_size"] == [32, 48]
    here("export", run, "--output", package).ended(0)
    document = here("inspect", package / "wide.onnx", "--json").ended(0).document
    assert document["preprocessing"]["size"] == [32, 48]
    assert here("inspect", package, "--json").ended(0).document["backbone"]["input_size"] == [32, 48]
    images = sorted(pictures.rglob("*.png"))[:3]
    answers = [
        [one["label"] for one in here("predict", where, *images, "--json").ended(0).document["predictions"]]
        for where in (package, run)
    ]
    assert answers[0] == answers[1]
    options = (
        "--backend",
        "ort-cpu",
        "--backend",
        "torch",
        "--run",
        run,
        "--rounds",
        "3",
        "--processes",
        "1",
        "--json",
    )
    report = here("profile", package, *options).ended(0).document
    assert [one["failure"] for one in report["artefacts"]] == [None] * len(report["artefacts"])
    again = here("train", "--config", run / "options.yaml", "--data", pictures, "--run", tmp_path / "again").ended(0)
    assert "32 x 48" in again.err
    for made in ("ort-adapter", "embed", "triton"):
        here("export", package, "--format", made, "--output", tmp_path / made).ended(0)


@pytest.mark.parametrize("given", ["0", "24x", "x24", "many", "24x0", "-1"])
def test_what_is_no_size_is_refused_with_what_was_expected(given: str, pictures: Path, tmp_path: Path) -> None:
    outcome = here("train", "--data", pictures, *SMALL, f"--image-size={given}", "--run", tmp_path / "run").ended(2)
    assert "--image-size" in outcome.err
    assert "expected" in outcome.err


def test_tasks_of_two_sizes_do_not_share_a_package(run: Path, packaged: Packaged) -> None:
    outcome = here("export", run, "--output", packaged.folder).ended(4)
    assert "backbone" in outcome.err


def test_a_size_that_does_not_fit_is_refused_before_anything_is_made(pictures: Path, tmp_path: Path) -> None:
    outcome = here(
        "train", "--data", pictures, *SMALL, "--budget-mb", "1", "--image-size", "31", "--run", tmp_path / "run"
    ).ended(2)
    assert "Take --image-size" in outcome.err
    assert not (tmp_path / "run").exists()
