"""Data that is no folder: tables of images, and sprites drawn by formula."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mimi_edge.errors import ConfigError
from mimi_edge.events import Event, Note
from mimi_edge.images.dataset import load_dataset, split_document
from mimi_edge.images.sources.names import is_named
from mimi_edge.images.sources.scenes import draw_scene
from mimi_edge.images.sources.sprites import COUNTS, ORIENTATIONS, POSITIONS, SHAPES, Sprite, draw, sprite_numbered
from mimi_edge.training.asked_config import data_wherever

MIDDLE = Sprite(shape=0, scale=5, orientation=0, x=16, y=16)


def pictures(folder: Path, count: int) -> list[str]:
    (folder / "images").mkdir(parents=True)
    names = [f"images/{number}.png" for number in range(count)]
    for number, name in enumerate(names):
        Image.new("RGB", (3, 2), (number, 0, 0)).save(folder / name)
    return names


def written(folder: Path, rows: list[str], name: str = "labels.csv") -> Path:
    path = folder / name
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def refused(path: Path, **options: object) -> str:
    with pytest.raises(ConfigError) as raised:
        load_dataset(path, seed=0, **options)
    return str(raised.value)


def test_a_table_names_images_classes_and_splits(tmp_path: Path) -> None:
    names = pictures(tmp_path, 12)
    splits = ["train", "valid", "Test"]
    rows = [f"{name},{'cat' if index % 2 else 'dog'},{splits[index // 4]}" for index, name in enumerate(names)]
    dataset = load_dataset(written(tmp_path, ["path,label,split", *rows]), seed=0)
    assert (dataset.name, dataset.classes) == ("labels.csv", ("cat", "dog"))
    assert {name: set(split.origins) for name, split in dataset.splits.items()} == {
        "train": set(names[:4]),
        "val": set(names[4:8]),
        "test": set(names[8:]),
    }
    test = dataset.splits["test"]
    for index, origin in enumerate(test.origins):
        assert test.image(index).getpixel((0, 0))[0] == names.index(origin)
        assert test.classes[test.labels[index]] == ("cat" if names.index(origin) % 2 else "dog")


def test_without_splits_images_are_shared_out_and_a_written_split_is_taken_up(tmp_path: Path) -> None:
    names = pictures(tmp_path, 20)
    path = written(
        tmp_path, ["class\tfile", *[f"{'ab'[index % 2]}\t{name}" for index, name in enumerate(names)]], "t.tsv"
    )
    heard: list[Event] = []
    dataset = load_dataset(path, seed=3, listener=heard.append)
    assert sum(map(len, dataset.splits.values())) == 20
    assert any(isinstance(event, Note) and "(seed 3)" in event.text for event in heard)
    again = load_dataset(path, seed=9, split=split_document(dataset))
    assert split_document(again) == split_document(dataset)


def test_titles_can_be_named(tmp_path: Path) -> None:
    names = pictures(tmp_path, 12)
    rows = [f"{index},{name},{'ab'[index % 2]},x" for index, name in enumerate(names)]
    path = written(tmp_path, ["id,where,what,label", *rows])
    assert load_dataset(path, seed=0, columns="path=where, label=What").classes == ("a", "b")
    assert "no column for path" in refused(path)
    assert "'id', 'where', 'what', 'label'" in refused(path)
    assert "no column for split" in refused(path, columns="path=where,label=what,split=nowhere")
    for wrong in ("where", "path=", "place=where"):
        assert "--data-columns takes" in refused(path, columns=wrong)


def test_all_faults_of_a_table_are_told_with_their_lines(tmp_path: Path) -> None:
    names = pictures(tmp_path, 4)
    rows = [f"{names[0]},cat,train", f"{names[0]},dog,train", "gone.png,dog,train", f"{names[1]},,train", ",cat,train"]
    told = refused(written(tmp_path, ["path,label,split", *rows, "", f"{names[2]},cat,later", f"{names[3]},dog,"]))
    for fault in (
        "line 3: 'images/0.png' is in line 2, too",
        "line 4: there is no file 'gone.png'",
        "line 5: names no class",
        "line 6: names no image",
        "line 8: expected a split, one of train",
        "line 9: expected a split",
    ):
        assert fault in told, fault
    assert "no image is of the split train" in refused(written(tmp_path, ["path,label,split", f"{names[0]},cat,test"]))


def test_images_that_are_gone_can_be_left_out(tmp_path: Path) -> None:
    names = pictures(tmp_path, 12)
    rows = [f"{name},{'ab'[index % 2]}" for index, name in enumerate(names)]
    path = written(tmp_path, ["path,label", *rows, "gone.png,a"])
    assert "--skip-bad-images" in refused(path)
    assert sum(map(len, load_dataset(path, seed=0, skip_bad_images=True).splits.values())) == 12
    path = written(tmp_path, ["path,label", *rows, "gone.png,a", f"{names[0]},"])
    with pytest.raises(ConfigError, match="names no class") as told:
        load_dataset(path, seed=0, skip_bad_images=True)
    assert "--skip-bad-images" not in str(told.value)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe,\n", b'path,label\n"' + b"x" * 200_000, b"path\n1\n", b"\0,\0\n"])
def test_what_is_no_table_is_one_clear_error(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    assert "t.csv" in refused(path)


def test_a_folder_with_such_a_table_is_told_to_give_the_table(tmp_path: Path) -> None:
    for number in range(8):
        Image.new("RGB", (3, 2)).save(tmp_path / f"{number}.png")
    path = written(tmp_path, ["file,label", *[f"{number}.png,{'ab'[number % 2]}" for number in range(8)]])
    assert f"--data {path}" in refused(tmp_path)


@pytest.mark.parametrize(
    ("name", "classes"), [("sprites-location", 16), ("sprites-orientation", 16), ("sprites-count", 8)]
)
def test_sprites_are_the_same_for_everybody(name: str, classes: int) -> None:
    dataset = load_dataset(f"generated:{name}", seed=5)
    assert is_named(f"generated:{name}")
    assert {split: len(images) for split, images in dataset.splits.items()} == {"train": 800, "val": 200, "test": 2000}
    assert split_document(dataset) == split_document(load_dataset(f"generated:{name}", seed=0))
    origins = [origin for split in dataset.splits.values() for origin in split.origins]
    assert len(set(origins)) == len(origins)
    for split in dataset.splits.values():
        assert set(split.labels.tolist()) == set(range(classes))
    assert load_dataset(f"generated:{name}", seed=0, split=split_document(dataset)).classes == dataset.classes
    with pytest.raises(ConfigError, match="not that of generated:sprites"):
        load_dataset(f"generated:{name}", seed=0, split=split_document(load_dataset("builtin:digits", seed=0)))


def test_other_names_are_answered_with_those_there_are() -> None:
    with pytest.raises(
        ConfigError, match="generated:sprites-location, generated:sprites-orientation, generated:sprites-count"
    ):
        load_dataset("generated:circles", seed=0)


def test_a_name_that_nobody_knows_is_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for look in (data_wherever, lambda data: load_dataset(data, seed=0)):
        with pytest.raises(ConfigError, match="names begin with builtin:, generated:, torchvision:, hf:, as"):
            look("kaggle:cifar10")
    (tmp_path / "kaggle:cifar10").mkdir()
    assert data_wherever("kaggle:cifar10") == str(tmp_path / "kaggle:cifar10")
    assert data_wherever("generated:sprites-location") == "generated:sprites-location"


def test_a_parquet_table_is_a_table(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    names = pictures(tmp_path, 24)
    columns = {
        "id": list(range(24)),
        "file": names,
        "species": pa.array(["cat" if index % 2 else "dog" for index in range(24)]).dictionary_encode(),
        "split": [("train", "val", "test")[index % 3] for index in range(24)],
        "bytes": [b"\xff\xd8"] * 24,
    }
    path = tmp_path / "labels.parquet"
    parquet.write_table(pa.table(columns), path)
    dataset = load_dataset(path, seed=0)
    assert (dataset.classes, {name: len(part) for name, part in dataset.splits.items()}) == (
        ("cat", "dog"),
        dict.fromkeys(("train", "val", "test"), 8),
    )
    val = dataset.splits["val"]
    assert [val.classes[label] for label in val.labels] == [
        columns["species"][names.index(o)].as_py() for o in val.origins
    ]
    columns["file"] = [*names[:-1], None]
    parquet.write_table(pa.table(columns), path)
    with pytest.raises(ConfigError, match="row 24: names no image"):
        load_dataset(path, seed=0)
    path.write_bytes(b"PAR1 no more")
    with pytest.raises(ConfigError, match="cannot be read as a Parquet table"):
        load_dataset(path, seed=0)


def test_labels_are_what_is_seen() -> None:
    location, turned = (load_dataset(f"generated:sprites-{name}", seed=0) for name in ("location", "orientation"))
    for index in range(40):
        seen = np.asarray(location.splits["val"].image(index))[..., 0]
        columns = np.flatnonzero(seen.any(0))
        middle = (columns[0] + columns[-1]) / 2
        sprite = sprite_numbered(int(location.splits["val"].origins[index].removeprefix("sprite ")))
        assert abs(middle - POSITIONS[sprite.x]) < 4
        assert location.splits["val"].labels[index] == sprite.x // 2
        assert turned.splits["val"].labels[index] == math.floor(sprite.orientation * 16 / 40)


def test_a_scene_has_as_many_sprites_as_its_class_says() -> None:
    images = load_dataset("generated:sprites-count", seed=0).splits["val"]
    seen = [np.asarray(images.image(index))[..., 0] > 0 for index in range(60)]
    assert [images.classes[label] for label in images.labels[:60]] == [str(pieces(one)) for one in seen]
    areas = {count: [int(draw_scene(number).sum()) for number in range(count - 1, 200, 8)] for count in (3, 8)}
    assert max(areas[3]) > min(areas[8]), "the white area gives the number away"


def pieces(white: np.ndarray) -> int:
    """How many parts hang together, corners included."""
    left, found = set(zip(*np.nonzero(white), strict=True)), 0
    while left:
        found, edge = found + 1, [left.pop()]
        while edge:
            row, column = edge.pop()
            around = {(row + down, column + right) for down in (-1, 0, 1) for right in (-1, 0, 1)} & left
            left -= around
            edge += around
    return found


@pytest.mark.parametrize("shape", range(len(SHAPES)))
def test_a_sprite_is_where_it_is_said_to_be_and_as_large(shape: int) -> None:
    small, large = (int((draw(replace(MIDDLE, shape=shape, scale=scale)) > 0).sum()) for scale in (0, 5))
    assert large / small == pytest.approx(4, rel=0.15)
    moved = draw(replace(MIDDLE, shape=shape, x=31, y=0))
    assert moved.any()
    edge = np.concatenate([moved[0], moved[-1], moved[:, 0], moved[:, -1]])
    assert not edge.any()
    assert set(np.unique(moved)) == {0, 255}
    assert math.prod(COUNTS) == 737_280


def test_a_sprite_turns() -> None:
    heart = replace(MIDDLE, shape=2)
    upright, opposite = draw(heart), draw(replace(heart, orientation=20))
    rows = np.arange(64)[:, None]
    assert ((upright > 0) * rows).sum() / (upright > 0).sum() != pytest.approx(
        ((opposite > 0) * rows).sum() / (opposite > 0).sum(), abs=0.5
    )
    assert np.array_equal(draw(heart), draw(replace(heart, orientation=len(ORIENTATIONS) - 1)))
