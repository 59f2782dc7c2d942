"""What docs/python.md says can be called, is called: its code is run as it stands, with a camera of our own."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from tiny_package import CLASSES, make_package

import mimi_edge
from mimi_edge.errors import ConfigError
from mimi_edge.export.open_packages import Package

IN_SECONDS = {
    'backbone="swin_tiny_patch4_window7_224"': 'backbone="builtin", weights="random", start_ratio=8, epochs=1',
    "budget_mb=0.5": "budget_mb=0.08",
    'runs=["runs/photos"]': 'runs=["runs/photos"], rounds=2',
}
"""What turns the training of the page into one of the demonstration."""


@pytest.fixture
def blocks(repository: Path) -> dict[str, str]:
    """The code of the page by the heading above it."""
    page = (repository / "docs" / "python.md").read_text("utf-8")
    return dict(re.findall(r"^## ([^\n]+)\n(?:(?!^## ).)*?```python\n(.*?)```", page, re.MULTILINE | re.DOTALL))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the page is read: a package, a photo and a folder of photos."""
    make_package(tmp_path, {"digits": (1, 2, 1)})
    random = np.random.default_rng(5)
    for place in ("photo.jpg", *(f"photos/{label}/{number}.png" for label in "ab" for number in range(8))):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (8, 9, 3), np.uint8)).save(tmp_path / place)
    (tmp_path / "photos/a/0.png").write_bytes(b"no image")
    monkeypatch.chdir(tmp_path)
    return tmp_path


class FakeCamera:
    """Three frames in OpenCV's order of colours."""

    def __init__(self, number: int) -> None:
        self.left = [np.full((6, 8, 3), (200, shade, 10), np.uint8) for shade in (0, 100, 250)]

    def read(self):
        return (True, self.left.pop()) if self.left else (False, None)

    def release(self):
        assert not self.left


def run(block: str) -> dict:
    names: dict = {}
    exec(block, names)  # noqa: S102  it is the page's
    return names


def test_the_answers_of_the_page(blocks, folder, capsys):
    names = run(blocks["Answers"])
    assert names["answer"].label in CLASSES
    assert capsys.readouterr().out.startswith(names["answer"].label)


def test_the_camera_of_the_page(blocks, folder, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "cv2", SimpleNamespace(VideoCapture=FakeCamera))
    run(blocks["A camera, or a film"])
    with mimi_edge.Predictor("package") as predictor:
        expected = predictor([np.full((6, 8, 3), (10, shade, 200), np.uint8) for shade in (250, 100, 0)])
    assert capsys.readouterr().out.splitlines() == [f"{one.label} {one.probability:.0%}" for one in expected]


def test_the_thousands_of_the_page(blocks, folder, capsys):
    run(blocks["Thousands of files"])
    lines = capsys.readouterr().out.splitlines()
    assert sum("photos/" in line and " digits " in line for line in lines) == 15
    assert sum("photos/a/0.png" in line for line in lines) == 1


@pytest.mark.slow
def test_the_training_of_the_page(blocks, folder, monkeypatch, capsys):
    (folder / "photos/a/0.png").unlink()
    (folder / "package").rename(folder / "other")
    monkeypatch.setenv("MIMI_EDGE_CACHE", str(folder / "cache"))
    block = blocks["From images to a package"]
    for said, quick in IN_SECONDS.items():
        assert said in block
        block = block.replace(said, quick)
    names = run(block)
    assert isinstance(names["package"], Package)
    assert (folder / "runs/photos/photos.safetensors").stat().st_size <= 80_000
    assert "backbone" in capsys.readouterr().out


def test_merge_is_the_step_that_export_takes(folder):
    graph = (folder / "package" / "digits.onnx").read_bytes()
    made = mimi_edge.merge("package/backbone.onnx", "package/digits.safetensors", "package/again.onnx")
    assert Path(made.path).read_bytes() == graph
    assert made.neurons == {"blocks.0.mlp": 1, "blocks.1.mlp": 2, "blocks.2.mlp": 1}


def test_export_is_a_package_of_modules_and_a_function(folder):
    assert mimi_edge.export.packages.read_package(Path("package")).tasks
    with pytest.raises(ConfigError, match="no run folder"):
        mimi_edge.export("photos", package="made")


def test_train_names_what_it_does_not_know():
    with pytest.raises(ConfigError, match=r"train\(\) knows no epoch; .* epochs"):
        mimi_edge.train("photos", budget_mb=1, epoch=3)


def test_profile_names_what_it_does_not_know():
    with pytest.raises(ConfigError, match="no backend 'gpu'"):
        mimi_edge.profile("package", backend="gpu")


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match="it has Answer"):
        mimi_edge.predict  # noqa: B018
    assert set(mimi_edge.__all__) <= set(dir(mimi_edge))
