"""Folders of images become datasets, whole and the same each time, or are refused with everything that is wrong."""

import errno
import json
import os
import shlex
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mimi_edge.errors import ConfigError
from mimi_edge.events import Event, Note
from mimi_edge.images.dataset import Dataset, load_dataset, split_document
from mimi_edge.images.splits import SPLITS, shared_out


def add_images(folder: Path, count: int, ending: str = ".png") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.new("RGB", (3, 2), (number % 256, 0, 0)).save(folder / f"{number:03}{ending}")
    return folder


def two_classes(root: Path, count: int = 20) -> Path:
    add_images(root / "cat", count)
    add_images(root / "dog", count)
    return root


def divided(root: Path, splits: Sequence[str], count: int = 20) -> Path:
    for split in splits:
        two_classes(root / split, count)
    return root


def origins(dataset: Dataset) -> dict[str, tuple[str, ...]]:
    return {name: split.origins for name, split in dataset.splits.items()}


def refused(root: Path, **options: object) -> str:
    with pytest.raises(ConfigError) as caught:
        load_dataset(root, seed=0, **options)
    str(caught.value).encode()
    return str(caught.value)


def notes(root: Path, **options: object) -> tuple[Dataset, str]:
    heard: list[Event] = []
    dataset = load_dataset(root, seed=0, listener=heard.append, **options)
    return dataset, "\n".join(event.text for event in heard if isinstance(event, Note))


def test_a_folder_per_class_is_shared_out(tmp_path: Path) -> None:
    add_images(tmp_path / "dog", 40)
    add_images(tmp_path / "cat", 20)
    dataset, heard = notes(tmp_path)
    assert dataset.classes == ("cat", "dog")
    assert dataset.name == tmp_path.name
    counts = {name: Counter(split.labels.tolist()) for name, split in dataset.splits.items()}
    assert counts == {"train": {0: 14, 1: 28}, "val": {0: 3, 1: 6}, "test": {0: 3, 1: 6}}
    everything = [origin for split in dataset.splits.values() for origin in split.origins]
    assert sorted(everything) == sorted({f"{p.parent.name}/{p.name}" for p in tmp_path.glob("*/*.png")})
    for split in dataset.splits.values():
        assert split.labels.dtype == np.int64
        assert len(split) == len(split.labels)
        for index, label in enumerate(split.labels):
            assert split.origin(index).startswith(dataset.classes[label] + "/")
    assert "15% of the images of each class are taken for each (seed 0)" in heard


def test_images_are_those_of_their_origins(tmp_path: Path) -> None:
    split = load_dataset(two_classes(tmp_path), seed=3).splits["train"]
    for index in range(len(split)):
        image = split.image(index)
        assert image.size == (3, 2)
        assert image.getpixel((0, 0)) == (int(Path(split.origin(index)).stem), 0, 0)


def test_sharing_out_depends_on_the_seed_alone(tmp_path: Path) -> None:
    first = two_classes(tmp_path / "a" / "data")
    second = tmp_path / "b" / "other"
    for path in sorted(first.glob("*/*"), reverse=True):
        copied = second / path.relative_to(first)
        copied.parent.mkdir(parents=True, exist_ok=True)
        copied.write_bytes(path.read_bytes())
    assert origins(load_dataset(first, seed=5)) == origins(load_dataset(second, seed=5))
    assert origins(load_dataset(first, seed=5)) != origins(load_dataset(first, seed=6))


def test_the_order_is_the_same_everywhere() -> None:
    keys = [f"cat/{number}.jpg" for number in range(10)]
    parts = shared_out(keys, {"train": 0.6, "val": 0.2, "test": 0.2}, seed=0)
    assert parts["val"] == ["cat/1.jpg", "cat/5.jpg"]
    assert parts["test"] == ["cat/0.jpg", "cat/6.jpg"]
    assert shared_out(keys[::-1], {"train": 0.6, "val": 0.2, "test": 0.2}, seed=0) == parts


@given(count=st.integers(3, 200), seed=st.integers(0, 2**32), held_out=st.floats(0.01, 0.33))
def test_each_split_has_some_and_no_image_is_lost(count: int, seed: int, held_out: float) -> None:
    keys = [str(number) for number in range(count)]
    parts = shared_out(keys, {"train": 1 - 2 * held_out, "val": held_out, "test": held_out}, seed)
    assert all(parts.values())
    assert sorted(key for part in parts.values() for key in part) == sorted(keys)
    assert abs(len(parts["val"]) - count * held_out) < 1


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("train", "val", "test"),
        ("training", "valid", "testing"),
        ("Train", "Validation", "TEST"),
        ("TRAINING", "dev", "eval"),
    ],
)
def test_given_splits_are_kept(train: str, val: str, test: str, tmp_path: Path) -> None:
    divided(tmp_path, [train, val, test], 2)
    dataset, heard = notes(tmp_path)
    assert heard == ""
    assert list(dataset.splits) == list(SPLITS)
    for name, folder in (("train", train), ("val", val), ("test", test)):
        expected = tuple(f"{folder}/{label}/00{number}.png" for label in ("cat", "dog") for number in (0, 1))
        assert dataset.splits[name].origins == expected


@pytest.mark.parametrize(("given_splits", "missing"), [(["test"], ["val"]), (["val"], ["test"]), ([], ["val", "test"])])
def test_missing_splits_are_taken_from_train(given_splits: list[str], missing: list[str], tmp_path: Path) -> None:
    divided(tmp_path, ["train", *given_splits])
    dataset, heard = notes(tmp_path)
    for split in missing:
        assert f"no {split}" in heard.lower()
        assert len(dataset.splits[split]) == 6
        assert all(origin.startswith("train/") for origin in dataset.splits[split].origins)
    for split in given_splits:
        assert len(dataset.splits[split]) == 40
    assert len(dataset.splits["train"]) == 40 - 6 * len(missing)
    assert not set(dataset.splits["train"].origins) & set(dataset.splits[missing[0]].origins)


def test_a_class_called_train_beside_others(tmp_path: Path) -> None:
    for name in ("bus", "train", "car"):
        add_images(tmp_path / name, 3)
    dataset, heard = notes(tmp_path)
    assert dataset.classes == ("bus", "car", "train")
    assert "train/ is read as a class" in heard


def test_classes_in_nested_folders_one_called_train(tmp_path: Path) -> None:
    for name in ("bus", "train", "car", "ship"):
        add_images(tmp_path / name / "day", 2)
        add_images(tmp_path / name / "night", 2)
    assert load_dataset(tmp_path, seed=0).classes == ("bus", "car", "ship", "train")


@pytest.mark.parametrize("folders", [["train", "test"], ["train", "val", "test"], ["train"]])
def test_splits_without_class_folders_are_explained(folders: list[str], tmp_path: Path) -> None:
    for name in folders:
        add_images(tmp_path / name, 5)
    message = refused(tmp_path)
    assert "train/ has no folders for the classes" in message
    assert "train/cat/1.jpg" in message


def test_an_unlabelled_test_folder_is_explained(tmp_path: Path) -> None:
    divided(tmp_path, ["train"])
    add_images(tmp_path / "test", 3)
    assert "3 images lie directly in test/" in refused(tmp_path)
    assert "move test/ away" in refused(tmp_path)


def test_folders_of_splits_are_called_by_their_names(tmp_path: Path) -> None:
    divided(tmp_path, ["training", "testing"], 3)
    add_images(tmp_path / "training" / "bird", 1)
    message = refused(tmp_path)
    assert "testing/ has no folder for bird" in message
    assert "the class bird has 1 image in training/; 2 are needed" in message


@pytest.mark.parametrize("names", [("Trainset", "Testset"), ("train", "holdout"), ("set1", "set2"), ("a", "b", "c")])
def test_splits_of_other_names_are_not_taken_for_classes(names: Sequence[str], tmp_path: Path) -> None:
    message = refused(divided(tmp_path, names, 3))
    assert f"{', '.join(f'{name}/' for name in sorted(names))} hold the same folders (cat/, dog/)" in message
    assert "they look like splits, not like classes" in message


def test_splits_of_other_names_are_told_how_to_be_called(tmp_path: Path) -> None:
    message = refused(divided(tmp_path / "my photos", ["Train set", "validate"], 3))
    root = tmp_path / "my photos"
    assert f"mv '{root}/Train set' '{root}/train'; mv '{root}/validate' '{root}/val'" in message


def test_a_class_that_a_split_lacks_does_not_hide_the_splits(tmp_path: Path) -> None:
    divided(tmp_path, ["fold1", "fold2"], 3)
    add_images(tmp_path / "fold1" / "bird", 3)
    assert "look like splits" in refused(tmp_path)


def test_classes_with_images_of_their_own_are_classes_whatever_they_hold_beside(tmp_path: Path) -> None:
    divided(tmp_path, ["bus", "car"], 3)
    add_images(tmp_path / "bus", 1)
    assert load_dataset(tmp_path, seed=0).classes == ("bus", "car")


@pytest.mark.parametrize(
    ("inside", "right"), [("flowers", "flowers"), ("a/b c", "a/b c"), ("x/train", "x"), ("x/y/Training", "x/y")]
)
def test_a_folder_around_the_data_is_named_as_the_mistake(inside: str, right: str, tmp_path: Path) -> None:
    root = tmp_path / "outer"
    two_classes(root / inside, 3)
    message = refused(root)
    assert "holds one folder only" in message
    assert "(cat/, dog/)" in message
    assert f"--data {shlex.quote(str(root / right))}" in message
    assert load_dataset(root / right, seed=0).classes == ("cat", "dog")


def test_a_folder_around_splits_is_named_as_the_mistake(tmp_path: Path) -> None:
    divided(tmp_path / "outer" / "flowers", ["train", "test"], 3)
    assert f"--data {tmp_path}/outer/flowers" in refused(tmp_path / "outer")


def test_no_train_folder(tmp_path: Path) -> None:
    assert "there is no train/ beside test/, val/" in refused(divided(tmp_path, ["val", "test"]))


def test_two_folders_for_one_split(tmp_path: Path) -> None:
    assert "val/, valid/ all hold the val split" in refused(divided(tmp_path, ["train", "val", "valid"]))


def test_other_folders_beside_splits_are_left_out(tmp_path: Path) -> None:
    divided(tmp_path, ["train", "test"])
    (tmp_path / "annotations").mkdir()
    dataset, heard = notes(tmp_path)
    assert dataset.classes == ("cat", "dog")
    assert "annotations/" in heard


def test_every_usual_ending_counts_and_nothing_else(tmp_path: Path) -> None:
    two_classes(tmp_path, 3)
    for name in ("a.JPG", "b.jpeg", "c.Tiff", "d.webp", "deep/er/e.bmp", "f.pgm"):
        path = tmp_path / "cat" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    for name in (".hidden.png", "._a.png", "Thumbs.db", "notes.txt", ".git/x.png", "__MACOSX/x.png", "x.png.part"):
        path = tmp_path / "cat" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    for name in (".git", "__MACOSX", ".ipynb_checkpoints"):
        add_images(tmp_path / name, 1)
    dataset = load_dataset(tmp_path, seed=0)
    assert dataset.classes == ("cat", "dog")
    cats = {origin for part in origins(dataset).values() for origin in part if origin.startswith("cat/")}
    expected = {"000.png", "001.png", "002.png", "a.JPG", "b.jpeg", "c.Tiff", "d.webp", "deep/er/e.bmp", "f.pgm"}
    assert cats == {f"cat/{name}" for name in expected}


def test_what_is_left_out_is_counted_by_ending(tmp_path: Path) -> None:
    two_classes(tmp_path, 4)
    for name in ("cat/a.mp4", "cat/b.MP4", "dog/c.pdf", "dog/deep/README", "dog/Thumbs.db", "dog/.hidden"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    _, heard = notes(tmp_path)
    assert "Left out 4 files that cannot be read as images: 2 x .mp4, 1 x .pdf, 1 x no ending." in heard


def test_nothing_left_out_is_not_spoken_of(tmp_path: Path) -> None:
    assert "Left out" not in notes(two_classes(tmp_path, 4))[1]


def test_images_are_known_by_content_where_the_ending_says_nothing(tmp_path: Path) -> None:
    two_classes(tmp_path, 3)
    for number, name in enumerate(("cat/plain", "cat/a.jpg?x=1", "dog/b.jfif", "dog/c.jpe")):
        Image.new("RGB", (3, 2), (number, 0, 0)).save(tmp_path / name, "JPEG")
    dataset, heard = notes(tmp_path)
    found = {origin for part in origins(dataset).values() for origin in part}
    assert {"cat/plain", "cat/a.jpg?x=1", "dog/b.jfif", "dog/c.jpe"} <= found
    assert "Left out" not in heard


def test_loose_images_are_told(tmp_path: Path) -> None:
    add_images(two_classes(tmp_path), 2)
    _, heard = notes(tmp_path)
    assert f"2 images lie directly in {tmp_path}, outside the class folders" in heard


def test_names_of_any_kind(tmp_path: Path) -> None:
    add_images(tmp_path / "Größe 🐈 #1", 3)
    add_images(tmp_path / "猫 [x]", 3)
    (tmp_path / "猫 [x]" / "000.png").rename(tmp_path / "猫 [x]" / "a 🐕'\"\n.png")
    dataset = load_dataset(str(tmp_path), seed=0)
    assert dataset.classes == ("Größe 🐈 #1", "猫 [x]")
    document = json.loads(json.dumps(split_document(dataset)))
    assert origins(load_dataset(tmp_path, seed=9, split=document)) == origins(dataset)
    for split in dataset.splits.values():
        assert split.image(0).mode == "RGB"


def bytes_named(path: bytes) -> bool:
    try:
        with open(path, "wb") as opened:  # noqa: PTH123
            Image.new("RGB", (2, 2)).save(opened, "PNG")
    except OSError:
        return False
    return True


@pytest.mark.skipif(sys.platform != "linux", reason="names are Unicode elsewhere")
def test_names_that_are_not_unicode(tmp_path: Path) -> None:
    two_classes(tmp_path)
    if not bytes_named(os.fsencode(tmp_path) + b"/cat/\xe9.png"):
        pytest.skip("this file system takes Unicode names only")
    dataset = load_dataset(tmp_path, seed=0)
    document = json.loads(json.dumps(split_document(dataset), ensure_ascii=False).encode())
    again = load_dataset(tmp_path, seed=0, split=document)
    split, index = next(
        (split, split.origins.index("cat/\\udce9.png"))
        for split in again.splits.values()
        if "cat/\\udce9.png" in split.origins
    )
    assert split.image(index).size == (2, 2)
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff")).mkdir()
    assert "not Unicode: \\udcff" in refused(tmp_path)


def test_links_to_files_are_followed_and_loops_do_not_hang(tmp_path: Path) -> None:
    store = add_images(tmp_path / "store", 4)
    root = two_classes(tmp_path / "data", 4)
    for path in store.iterdir():
        (root / "cat" / f"linked_{path.name}").symlink_to(path)
    (root / "cat" / "loop").symlink_to(root, target_is_directory=True)
    (root / "bird").symlink_to(store, target_is_directory=True)
    dataset, heard = notes(root)
    assert dataset.classes == ("bird", "cat", "dog")
    found = [origin for part in origins(dataset).values() for origin in part]
    assert sum(origin.startswith("cat/linked_") for origin in found) == 4
    assert len(found) == 16
    assert "cat/loop" in heard


def test_a_dangling_link_is_an_image_that_cannot_be_used(tmp_path: Path) -> None:
    two_classes(tmp_path, 3)
    (tmp_path / "cat" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    dataset = load_dataset(tmp_path, seed=0)
    assert any("cat/gone.png" in part for part in origins(dataset).values())


def test_missing_file_and_empty(tmp_path: Path) -> None:
    assert "does not exist" in refused(tmp_path / "nowhere")
    archive = tmp_path / "data.zip"
    archive.write_bytes(b"PK")
    assert f"{archive} is an archive. Unpack it first: unzip" in refused(archive)
    (tmp_path / "notes.txt").write_text("cat")
    assert "is a file, not a folder" in refused(tmp_path / "notes.txt")
    (tmp_path / "empty").mkdir()
    assert "no classes" in refused(tmp_path / "empty")
    assert "no classes" in refused(add_images(tmp_path / "flat", 5))


def test_all_faults_come_together(tmp_path: Path) -> None:
    divided(tmp_path, ["train", "val"], 3)
    add_images(tmp_path / "train" / "bird", 1)
    add_images(tmp_path / "val" / "fish", 1)
    (tmp_path / "train" / "empty").mkdir()
    (tmp_path / "train" / "empty" / "a.mp4").write_bytes(b"")
    message = refused(tmp_path)
    assert "train/ has no folder for fish" in message
    assert "val/ has no folder for bird, empty" in message
    assert "train/empty holds no image" in message
    assert "1 x .mp4" in message
    assert "the class bird has 1 image in train/; 2 are needed, one for each of train, test" in message


def test_small_classes_are_left_out_if_asked(tmp_path: Path) -> None:
    add_images(two_classes(tmp_path) / "bird", 2)
    add_images(tmp_path / "fish", 1)
    (tmp_path / "empty").mkdir()
    message = refused(tmp_path)
    assert "To leave such classes out: --min-images 3" in message
    assert "To leave it out: --min-images 1" in message
    dataset, heard = notes(tmp_path, min_images=3)
    assert dataset.classes == ("cat", "dog")
    assert "Left out 3 classes with fewer than 3 images: bird (2), empty (0), fish (1)." in heard


def test_small_classes_of_given_splits_are_those_of_train(tmp_path: Path) -> None:
    divided(tmp_path, ["train", "val", "test"], 3)
    add_images(tmp_path / "train" / "bird", 1)
    add_images(tmp_path / "test" / "bird", 9)
    add_images(tmp_path / "val" / "fish", 9)
    dataset, heard = notes(tmp_path, min_images=2)
    assert dataset.classes == ("cat", "dog")
    assert "fewer than 2 images in train/: bird (1), fish (0)." in heard
    assert len(dataset.splits["test"]) == 6


def test_one_class_must_not_be_all_that_is_left(tmp_path: Path) -> None:
    add_images(two_classes(tmp_path, 4) / "cat" / "more", 20)
    assert "one class only, cat" in refused(tmp_path, min_images=5)
    assert "there is no class" in refused(tmp_path, min_images=50)


def test_a_written_split_remembers_what_was_left_out(tmp_path: Path) -> None:
    add_images(two_classes(tmp_path) / "bird", 2)
    dataset = load_dataset(tmp_path, seed=0, min_images=3)
    document = json.loads(json.dumps(split_document(dataset)))
    assert document["left_out"] == {"bird": 2}
    again, heard = notes(tmp_path, split=document)
    assert (origins(again), again.left_out) == (origins(dataset), {"bird": 2})
    assert heard == ""
    assert split_document(again) == document


def test_a_split_of_the_last_release_has_nothing_left_out(tmp_path: Path) -> None:
    document = split_document(load_dataset(two_classes(tmp_path), seed=0))
    assert set(document) == {"data", "seed", "classes", "splits"}
    assert load_dataset(tmp_path, seed=0, split=document).left_out == {}


@pytest.mark.parametrize(("cats", "told"), [(100, True), (90, False)])
def test_classes_that_are_far_apart_in_size_are_told(cats: int, told: bool, tmp_path: Path) -> None:
    add_images(tmp_path / "cat", cats)
    add_images(tmp_path / "dog", 20)
    sentence = "Classes are far apart in size: cat has 70 train images, dog 14. Look at balanced accuracy"
    assert (sentence in notes(tmp_path)[1]) == told


@pytest.mark.parametrize("split", [None, "train"])
def test_one_class(split: str | None, tmp_path: Path) -> None:
    add_images((tmp_path / split if split else tmp_path) / "cat", 5)
    assert "one class only, cat" in refused(tmp_path)


def test_an_empty_class(tmp_path: Path) -> None:
    (two_classes(tmp_path) / "bird").mkdir()
    assert "the class folder bird holds no image (.apng" in refused(tmp_path)


def test_too_few_images_of_a_class(tmp_path: Path) -> None:
    add_images(two_classes(tmp_path) / "bird", 2)
    assert "the class bird has 2 images; 3 are needed, one for each of train, val, test" in refused(tmp_path)


def test_folders_that_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = add_images(two_classes(tmp_path) / "cat" / "closed", 2)
    scandir = os.scandir

    def refusing(place: str) -> object:
        if str(place) == str(closed):
            raise PermissionError(errno.EACCES, "Permission denied", str(place))
        return scandir(place)

    monkeypatch.setattr(os, "scandir", refusing)  # Not by its mode, for root opens every folder.
    assert "cannot be opened: cat/closed" in refused(tmp_path)
    dataset, heard = notes(tmp_path, skip_bad_images=True)
    assert "cat/closed" in heard
    assert len(dataset.splits["train"]) == 28


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**40))
def test_a_written_split_is_taken_up_again(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.getbasetemp() / "reused"
    if not root.exists():
        two_classes(root)
    dataset = load_dataset(root, seed=seed)
    document = json.loads(json.dumps(split_document(dataset)))
    assert document["seed"] == seed
    again = load_dataset(root, seed=seed + 1, split=document)
    assert (again.seed, again.classes, origins(again)) == (seed, dataset.classes, origins(dataset))
    for name in SPLITS:
        np.testing.assert_array_equal(again.splits[name].labels, dataset.splits[name].labels)


def test_images_gone_since_the_split_was_written(tmp_path: Path) -> None:
    dataset = load_dataset(two_classes(tmp_path), seed=0)
    document = split_document(dataset)
    gone = [origin for origin in dataset.splits["train"].origins if origin.startswith("cat/")][:12]
    for origin in gone:
        (tmp_path / origin).unlink()
    add_images(tmp_path / "dog" / "new", 3)
    message = refused(tmp_path, split=document)
    assert "12 of 40 images of the written split are gone" in message
    assert all(origin in message for origin in gone[:10])
    assert "and 2 more" in message
    again, heard = notes(tmp_path, split=document, skip_bad_images=True)
    assert set(again.splits["train"].origins) == set(dataset.splits["train"].origins) - set(gone)
    assert "Left out 12 images" in heard
    assert "3 images are not in the written split" in heard
    for path in (tmp_path / "cat").iterdir():
        path.unlink()
    assert "train has no image left of cat" in refused(tmp_path, split=document, skip_bad_images=True)


DAMAGE: list[Mapping[str, object]] = [
    {"splits": None},
    {"splits": {"train": []}},
    {"classes": ["cat"]},
    {"classes": ["cat", "cat"]},
    {"seed": "x"},
    {"left_out": ["bird"]},
    {"left_out": {"bird": "two"}},
    {"splits": {"train": [["cat/000.png", "bird"]], "val": [], "test": []}},
    {"splits": {"train": [["cat/000.png", "cat"]], "val": [["cat/000.png", "cat"]], "test": []}},
    {"splits": {"train": [["cat/000.png"]], "val": [], "test": []}},
    {"splits": {"train": [[1, "cat"]], "val": [], "test": []}},
    {"splits": {"train": [["cat/000.png", ["cat"]]], "val": [], "test": []}},
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_written_split(damage: Mapping[str, object], tmp_path: Path) -> None:
    document = split_document(load_dataset(two_classes(tmp_path), seed=0))
    assert "written split is damaged" in refused(tmp_path, split=document | damage)


def test_a_hundred_classes_of_many_images(tmp_path: Path) -> None:
    for label in range(100):
        folder = tmp_path / f"class {label:03}"
        folder.mkdir()
        for number in range(50):
            (folder / f"{number}.jpg").touch()
    dataset = load_dataset(tmp_path, seed=0)
    assert sum(map(len, dataset.splits.values())) == 5000
    assert np.bincount(dataset.splits["test"].labels).tolist() == [8] * 100
