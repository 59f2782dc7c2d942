"""Images whose classes are in a table get the lines that make folders of it, and those lines work."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from mimi_edge.errors import ConfigError
from mimi_edge.images.dataset import load_dataset


def flat(folder: Path, count: int = 12) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.new("RGB", (3, 2), (number, 0, 0)).save(folder / f"{number:03}.png")
    return folder


def table(path: Path, row: str, header: str = "", count: int = 12) -> Path:
    lines = [header] if header else []
    lines += [
        row.format(name=f"{number:03}", label=("cat", "dog")[number % 2], number=number) for number in range(count)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def refused(root: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_dataset(root, seed=0)
    return str(caught.value)


def as_told(message: str) -> Path:
    """The folder that the lines in a message made."""
    script = message.split("<<'END'\n", 1)[1].split("END\n", 1)[0]
    subprocess.run([sys.executable, "-c", script], check=True)
    return Path(message.rsplit("--data ", 1)[1].strip("'"))


@pytest.mark.parametrize(
    ("name", "header", "row"),
    [
        ("labels.csv", "file,label", "{name}.png,{label}"),
        ("labels.csv", "", "{name}.png,{label}"),
        ("Labels.CSV", "id;split;number;class", "{name};train;{number};{label}"),
        ("train.tsv", "label\timage", "{label}\t{name}.png"),
        ("a.csv", "number,fold,image_id,what", "{number},1,{name},{label}"),
        ("quoted.csv", "image,label", '"{name}.png","{label}, or so"'),
    ],
)
@pytest.mark.parametrize("inside", ["", "images"])
def test_a_table_becomes_folders(name: str, header: str, row: str, inside: str, tmp_path: Path) -> None:
    root = tmp_path / "my photos"
    flat(root / inside)
    table(root / name, row, header)
    message = refused(root)
    assert f"{root / name} names images" in message
    made = as_told(message)
    assert made == tmp_path / "my photos-by-class"
    dataset = load_dataset(made, seed=0)
    assert [label[:3] for label in dataset.classes] == ["cat", "dog"]
    assert sum(map(len, dataset.splits.values())) == 12
    split = dataset.splits["train"]
    for index, label in enumerate(split.labels):
        assert split.image(index).getpixel((0, 0))[0] % 2 == label


def test_names_may_be_paths(tmp_path: Path) -> None:
    flat(tmp_path / "data" / "images")
    table(tmp_path / "data" / "a.csv", "images/{name}.png,{label}", "path,label")
    assert load_dataset(as_told(refused(tmp_path / "data")), seed=0).classes == ("cat", "dog")


def test_a_table_given_as_the_data(tmp_path: Path) -> None:
    flat(tmp_path / "data")
    path = table(tmp_path / "data" / "labels.csv", "{name}.png,{label}")
    assert f"{path} names images" in refused(path)


def test_flat_splits_with_a_table(tmp_path: Path) -> None:
    flat(tmp_path / "data" / "train")
    flat(tmp_path / "data" / "test")
    table(tmp_path / "data" / "train.csv", "{name},{label}", "id,breed")
    assert load_dataset(as_told(refused(tmp_path / "data")), seed=0).classes == ("cat", "dog")


def test_folders_of_classes_are_what_counts(tmp_path: Path) -> None:
    flat(tmp_path / "cat")
    flat(tmp_path / "dog")
    table(tmp_path / "labels.csv", "cat/{name}.png,{label}")
    assert load_dataset(tmp_path, seed=0).classes == ("cat", "dog")


@pytest.mark.parametrize(
    "content", [b"", b"\n\n", b"\0\0,\xff", b'"' + b"x" * 200_000, b"a,b\nc,d\n", b"," * 5000, b"000.png\n" * 9]
)
def test_other_tables_give_no_advice(content: bytes, tmp_path: Path) -> None:
    flat(tmp_path)
    (tmp_path / "other.csv").write_bytes(content)
    assert "holds no folders, so there are no classes" in refused(tmp_path)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("photos.zip", "unzip {0}/photos.zip -d {0}/photos"),
        ("photos.tar.gz", "mkdir -p {0}/photos && tar -xf {0}/photos.tar.gz -C {0}/photos"),
        ("photos.TAR", "mkdir -p {0}/photos && tar -xf {0}/photos.TAR -C {0}/photos"),
    ],
)
def test_an_archive_is_to_be_unpacked(name: str, line: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"")
    message = refused(tmp_path / name)
    assert line.format(tmp_path) in message
    assert f"--data {tmp_path}/photos" in message
