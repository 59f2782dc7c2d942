"""`mimi-edge export --embed` and `--format triton`: from a package, or from runs that are put into one first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cli_world import here
from PIL import Image
from test_cli_bare import files, folder, last_line, write_run  # noqa: F401  (a fixture among them)
from tiny_package import make_package


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = make_package(tmp_path, {"one": (2, 0, 3), "other": (0, 4, 1)})
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return made.folder


def test_one_file_of_a_package_and_what_predict_says_of_it(package: Path) -> None:
    done = here("export", package, "--embed", "--task", "one", "--json").ended(0)
    entry = done.document["files"]["one"]
    assert files(Path()) == [entry["file"]] == ["one.onnx"]
    assert entry["size_bytes"] == Path("one.onnx").stat().st_size
    assert entry["check"]["same_top1"] == entry["check"]["images"]
    assert last_line(done) == "Next: mimi-edge predict one.onnx photo.jpg"
    Image.fromarray(np.full((6, 6, 3), 90, np.uint8)).save("photo.jpg")
    here("predict", "one.onnx", "photo.jpg").ended(0)


def test_a_file_for_each_task_in_a_folder(package: Path) -> None:
    done = here("export", package, "--format", "embed", "--output", "all").ended(0)
    assert files(Path("all")) == ["one.onnx", "other.onnx"]
    assert "Pixels in, probabilities out" in done.out


def test_one_name_for_two_tasks_is_refused(package: Path) -> None:
    assert "Choose one with --task" in here("export", package, "--embed", "-o", "all.onnx").ended(2).err
    assert not files(Path())


def test_embed_and_another_format(package: Path) -> None:
    assert "Leave one out" in here("export", package, "--embed", "--format", "triton").ended(2).err


def test_triton_repository_of_a_package(package: Path) -> None:
    done = here("export", package, "--format", "triton", "--json").ended(0)
    assert files(Path("model_repository")) == ["one", "other"]
    assert done.document["models"]["one"]["folder"] == "model_repository/one"
    assert last_line(done) == f"Next: tritonserver --model-repository={Path('model_repository').absolute()}"


def test_one_file_of_the_newest_run(folder: Path) -> None:  # noqa: F811
    write_run(Path("runs/digits"))
    done = here("export", "--embed").ended(0)
    assert files(folder) == ["digits.onnx", "package", "runs"]
    assert "Taking the run runs/digits." in done.err
