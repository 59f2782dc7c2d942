"""docs/other-languages.md: its code runs as it stands, its vector is what we compute, its fields are all there are."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from make_vector import PHOTO, expected

from mimi_edge.export.graphs import METADATA_KEY, load_graph
from mimi_edge.export.open_packages import read_package


@pytest.fixture
def page(repository: Path) -> str:
    return (repository / "docs" / "other-languages.md").read_text("utf-8")


@pytest.fixture
def vector(repository: Path, tmp_path: Path) -> Path:
    return shutil.copytree(repository / "docs" / "test-vector", tmp_path / "vector")


def _numbers(document: dict) -> dict:
    return {name: np.array(document[name]) for name in ("logits", "probabilities")}


def test_vector_is_what_we_compute(vector):
    said, got = json.loads((vector / "expected.json").read_text("utf-8")), expected(vector)
    assert said["pixels"] == got["pixels"]
    assert said["tensor"] == got["tensor"]
    for name, numbers in _numbers(said).items():
        assert np.allclose(numbers, _numbers(got)[name], atol=1e-6)


def test_package_of_the_vector_is_whole(vector):
    assert list(read_package(vector / "package").tasks) == ["sample"]


def test_python_without_us(page, vector, monkeypatch, capsys):
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(vector)
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert "mimi_edge" not in re.findall(r"^(?:import|from) (\w+)", code, re.MULTILINE)
    names: dict = {}
    exec(compile(code, "other-languages.md", "exec"), names)  # noqa: S102  (the page's own code)
    said = json.loads((vector / "expected.json").read_text("utf-8"))
    assert names["pixels"].tolist() == said["pixels"]
    assert np.allclose(names["tensor"].ravel()[:8], said["tensor"]["first"], atol=1e-6)
    assert np.allclose(names["logits"], said["logits"], atol=1e-6)
    assert capsys.readouterr().out.splitlines()[1] == f"two {said['probabilities'][1]:.1%}"


def test_a_resizer_without_antialiasing_is_seen(vector):
    """The photograph is one on which resizers differ, or the vector would show nothing."""
    from PIL import Image

    said = json.loads((vector / "expected.json").read_text("utf-8"))
    every_other = np.asarray(Image.open(vector / PHOTO).convert("RGB").resize((13, 10), Image.Resampling.NEAREST))
    assert np.abs(every_other[1:9, 2:10].astype(int) - said["pixels"]).max() > 50


def test_every_field_of_the_metadata_is_in_the_table(page, vector):
    document = json.loads(load_graph(vector / "package" / "sample.onnx").metadata_props[METADATA_KEY])
    told = set(re.findall(r"`([a-z0-9_.]+)`", page)) | {"preprocessing.std"}
    fields = {
        f"{name}.{inner}" if isinstance(value, dict) else name
        for name, value in document.items()
        for inner in (value if isinstance(value, dict) else [""])
    }
    assert fields <= told, fields - told
