"""One size from training to the answer."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_world import SMALL, Packaged, here

from mimi_edge.images.image_size import ImageSize
from mimi_edge.tasks.files import read_task


@pytest.fixture(scope="module")
def run(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of images twice as large as the built-in backbone's."""
    folder = tmp_path_factory.mktemp("sized") / "run"
    options = ("--data", pictures, *SMALL, "--budget-mb", "0.08", "--image-size", "64", "--name", "sized")
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


def test_tasks_of_two_sizes_do_not_share_a_package(run: Path, packaged: Packaged) -> None:
    outcome = here("export", run, "--output", packaged.folder).ended(4)
    assert "backbone" in outcome.err


def test_a_size_that_does_not_fit_is_refused_before_anything_is_made(pictures: Path, tmp_path: Path) -> None:
    outcome = here(
        "train", "--data", pictures, *SMALL, "--budget-mb", "1", "--image-size", "31", "--run", tmp_path / "run"
    ).ended(2)
    assert "Take --image-size" in outcome.err
    assert not (tmp_path / "run").exists()
