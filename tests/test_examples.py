"""The scripts of examples/ run as they stand, on few images, and what they print is so."""

from __future__ import annotations

import json
import re
import runpy
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from safetensors import safe_open

from mimi_edge import Predictor
from mimi_edge.builtin.data import load_builtin
from mimi_edge.errors import ConfigError
from mimi_edge.methods import catalogue
from mimi_edge.methods.catalogue import METHODS, add_method
from mimi_edge.methods.method import Method, NoSettings
from mimi_edge.methods.parts import describe_none
from mimi_edge.tasks.files import read_task

OF_EACH = {"train": 6, "val": 2, "test": 2}
"""Images of each digit."""
SEEN_BY_TORCH = 32
Example = Callable[[str], tuple[Path, str]]


@pytest.fixture(scope="module")
def few_digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("few")
    for name, split in load_builtin("digits").items():
        for digit in range(10):
            (folder / name / str(digit)).mkdir(parents=True)
            of_digit = split.images[split.labels == digit][: OF_EACH[name]]
            for number, image in enumerate(of_digit):
                Image.fromarray(image).save(folder / name / str(digit) / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def example(
    few_digits: Path,
    cache_folder: Path,
    repository: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Example:
    """Runs a script with the fewest passes: the folder it wrote, and what it printed."""
    monkeypatch.setenv("MIMI_EDGE_CACHE", str(cache_folder))
    monkeypatch.setitem(catalogue._METHODS, "norms", METHODS["linear"])  # taken out again behind the test
    monkeypatch.delitem(catalogue._METHODS, "norms")

    def run(name: str) -> tuple[Path, str]:
        folder = tmp_path / "work"
        arguments = ["--data", str(few_digits), "--epochs", "1", "--folder", str(folder)]
        monkeypatch.setattr("sys.argv", [name, *arguments])
        runpy.run_path(str(repository / "examples" / name), run_name="__main__")
        return folder, capsys.readouterr().out

    return run


def numbers(text: str, pattern: str) -> list[int]:
    found = re.search(pattern, text)
    assert found is not None, text
    return [int(one.replace(",", "")) for one in found.groups()]


@pytest.mark.slow
def test_train_and_predict(example: Example) -> None:
    folder, said = example("train_and_predict.py")
    task = folder / "digits" / "digits.safetensors"
    assert numbers(said, r"trained: ([\d,]+) bytes") == [task.stat().st_size]
    assert 400_000 < task.stat().st_size <= 500_000
    unseen = load_builtin("digits")["test"]
    pictures = [Image.fromarray(image) for image in unseen.images]
    with Predictor(folder / "package") as merged, Predictor(folder / "digits") as in_torch:
        answers = merged(pictures)
        assert [one.label for one in in_torch(pictures[:SEEN_BY_TORCH])] == [
            one.label for one in answers[:SEEN_BY_TORCH]
        ]
    right = sum(answer.label == str(label) for answer, label in zip(answers, unseen.labels, strict=True))
    assert numbers(said, r"predicted: (\d+) of (\d+) right") == [right, len(unseen.labels)]
    assert f"the first is a {answers[0].label}" in said


@pytest.mark.slow
def test_two_methods(example: Example) -> None:
    folder, said = example("two_methods.py")
    passes = {}
    for name in ("mimi", "lora"):
        task = next((folder / name).glob("*.safetensors"))
        printed_bytes, passes[name] = numbers(said, rf"{name} +([\d,]+) +(\d+)")
        assert printed_bytes == task.stat().st_size <= 100_000
        assert read_task(task).header.method.name == name
    trainings = len(json.loads((folder / "mimi" / "report.json").read_text())["validation"])
    assert passes == {"mimi": trainings, "lora": trainings}
    assert json.loads((folder / "lora" / "config.json").read_text())["epochs"] == trainings > 1


@pytest.mark.slow
def test_own_method(example: Example) -> None:
    folder, said = example("own_method.py")
    task = folder / "digits" / "digits.safetensors"
    assert numbers(said, r"trained: ([\d,]+) bytes") == [task.stat().st_size]
    with safe_open(task, "np") as tensors:
        kept = {name for name in tensors.keys() if not name.startswith("head.")}  # noqa: SIM118  it is no mapping
    assert {"layers.0.blocks.0.norm1.weight", "layers.1.downsample.norm.bias", "norm.weight"} <= kept
    assert all("norm" in name for name in kept)
    assert read_task(task).header.method.name == "norms"
    assert (folder / "package" / "digits.onnx").is_file()


@pytest.mark.parametrize(
    ("name", "fault"), [("mimi", "There is a method mimi already"), ("My method", "small letters")]
)
def test_a_method_that_cannot_be_added(name: str, fault: str) -> None:
    before = dict(METHODS)
    with pytest.raises(ConfigError, match=fault):
        add_method(Method(name, "mine", "nowhere", describe_none, NoSettings, head_alone=True))
    assert dict(METHODS) == before


def test_a_method_may_be_added_again() -> None:
    add_method(METHODS["lora"])
    assert list(METHODS).count("lora") == 1
