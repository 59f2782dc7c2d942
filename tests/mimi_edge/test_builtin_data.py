"""The data that ships: how much, how it is divided, under which licence, and that it is what its sources give."""

import gzip
import hashlib
import io
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mimi_edge.builtin
from mimi_edge.builtin import make_data
from mimi_edge.builtin.data import CLASSES, load_builtin
from mimi_edge.errors import ConfigError
from mimi_edge.images.dataset import decode_split, load_dataset, split_document
from mimi_edge.images.preprocessing import Preprocessing

FOLDER = Path(mimi_edge.builtin.__file__).parent
COUNTS = {
    "digits": {"train": 1079, "val": 359, "test": 359},
    "fashion": {"train": 3000, "val": 1000, "test": 2000},
}
NAMES = tuple(COUNTS)
HALF = (0.5, 0.5, 0.5)


def shipped(name: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as arrays:
        return dict(arrays)


def hashes(images: np.ndarray) -> list[bytes]:
    return [hashlib.sha256(image.tobytes()).digest() for image in images]


def test_they_are_small() -> None:
    assert sum((FOLDER / f"{name}.npz").stat().st_size for name in NAMES) < 3_000_000


@pytest.mark.parametrize("name", NAMES)
def test_sizes(name: str) -> None:
    side = {"digits": 8, "fashion": 28}[name]
    arrays = shipped(name)
    assert {key: value.shape for key, value in arrays.items()} == {
        **{f"{split}_images": (count, side, side) for split, count in COUNTS[name].items()},
        **{f"{split}_labels": (count,) for split, count in COUNTS[name].items()},
    }
    assert {value.dtype for value in arrays.values()} == {np.dtype(np.uint8)}


@pytest.mark.parametrize("name", NAMES)
def test_no_image_is_in_two_splits(name: str) -> None:
    arrays = shipped(name)
    seen = {split: set(hashes(arrays[f"{split}_images"])) for split in COUNTS[name]}
    assert not seen["train"] & seen["val"]
    assert not seen["train"] & seen["test"]
    assert not seen["val"] & seen["test"]


@pytest.mark.parametrize("name", NAMES)
def test_classes_are_balanced(name: str) -> None:
    for split, part in load_builtin(name).items():
        counts = np.bincount(part.labels, minlength=10)
        allowed = {"digits": {"train": 9, "val": 1, "test": 1}}.get(name, {}).get(split, 0)
        assert len(counts) == len(CLASSES[name]) == 10
        assert counts.max() - counts.min() <= allowed


@pytest.mark.parametrize("name", NAMES)
def test_values_use_the_whole_range(name: str) -> None:
    for part in load_builtin(name).values():
        assert part.images.min() == 0
        assert part.images.max() == 255


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("digits", ["Alpaydin", "Kaynak", "UCI Machine Learning Repository", "CC BY 4.0", "What was changed"]),
        ("fashion", ["Zalando SE", "Permission is hereby granted", 'PROVIDED "AS IS"', "What was changed"]),
    ],
)
def test_licences_are_beside_the_data(name: str, words: list[str]) -> None:
    licence = (FOLDER / f"LICENSE-{name}.txt").read_text(encoding="utf-8")
    assert all(word in licence for word in words)


@pytest.mark.parametrize("name", NAMES)
def test_they_load_as_datasets(name: str) -> None:
    dataset = load_dataset(f"builtin:{name}", seed=1)
    assert dataset.name == name
    assert dataset.classes == CLASSES[name]
    assert {split: len(part) for split, part in dataset.splits.items()} == COUNTS[name]
    part = dataset.splits["val"]
    image = part.image(7)
    assert image.mode == "RGB"
    expected = Image.fromarray(load_builtin(name)["val"].images[7]).convert("RGB")
    assert image.tobytes() == expected.tobytes()
    assert part.origin(7) == "val/7"
    decoded = decode_split(part, Preprocessing(32, 32, "bicubic", HALF, HALF))
    assert decoded.images.shape == (COUNTS[name]["val"], 32, 32, 3)


def test_a_written_split_of_them_is_theirs_alone() -> None:
    document = split_document(load_dataset("builtin:digits", seed=0))
    assert load_dataset("builtin:digits", seed=5, split=document).classes == CLASSES["digits"]
    with pytest.raises(ConfigError, match="not that of builtin:fashion"):
        load_dataset("builtin:fashion", seed=0, split=document)


def test_an_unknown_name_lists_those_there_are() -> None:
    with pytest.raises(ConfigError, match="builtin:digits, builtin:fashion"):
        load_dataset("builtin:mnist", seed=0)


def test_digits_are_what_scikit_learn_has() -> None:
    sklearn_datasets = pytest.importorskip("sklearn.datasets")
    made, there = make_data.digits(), shipped("digits")
    assert list(made) == list(there)
    for key, values in made.items():
        np.testing.assert_array_equal(values, there[key])
    source = sklearn_datasets.load_digits()
    together = np.concatenate([there[f"{split}_images"] for split in COUNTS["digits"]])
    assert sorted(hashes(together)) == sorted(hashes(source.images.astype(np.uint8)))
    assert make_data.npz_bytes(made) == make_data.npz_bytes(make_data.digits())


@pytest.mark.skipif(not make_data.FASHION_FOLDER.exists(), reason="dataset-fashion-mnist is not installed")
def test_fashion_is_what_debian_has() -> None:
    made, there = make_data.fashion(), shipped("fashion")
    assert list(made) == list(there)
    for key, values in made.items():
        np.testing.assert_array_equal(values, there[key])


@pytest.mark.parametrize("name", NAMES)
def test_the_same_arrays_give_the_same_archive(name: str) -> None:
    again = make_data.npz_bytes(shipped(name))
    with zipfile.ZipFile(FOLDER / f"{name}.npz") as there, zipfile.ZipFile(io.BytesIO(again)) as made:
        members = there.infolist()
        # Not the compressed bytes: another zlib may pack the same content differently.
        described = [(info.filename, info.date_time, info.CRC, info.external_attr) for info in members]
        assert described == [(info.filename, info.date_time, info.CRC, info.external_attr) for info in made.infolist()]
        assert {info.date_time for info in members} == {make_data.EPOCH}


def test_draws_are_disjoint_and_as_many_as_asked() -> None:
    labels = np.repeat(np.arange(10), 30).astype(np.uint8)
    parts = make_data.chosen(labels, {"train": 103, "val": 40})
    assert {split: len(part) for split, part in parts.items()} == {"train": 103, "val": 40}
    assert not set(parts["train"].tolist()) & set(parts["val"].tolist())
    assert np.bincount(labels[parts["train"]]).tolist() == [11, 11, 11] + [10] * 7
    assert make_data.chosen(labels, {"train": 103}, seed=1)["train"].tolist() != parts["train"].tolist()


def test_the_script_says_where_to_get_what_is_missing(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    command = [sys.executable, "-m", "mimi_edge.builtin.make_data", "--out", str(tmp_path / "out")]
    done = subprocess.run([*command, "--fashion", str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == ConfigError.exit_code
    assert "apt install dataset-fashion-mnist" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_not_idx_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(b"no idx file at all"))
    with pytest.raises(ConfigError, match="not an idx file"):
        make_data.read_idx(path)
    path.write_bytes(b"not gzip")
    with pytest.raises(ConfigError, match="Cannot read"):
        make_data.read_idx(path)
