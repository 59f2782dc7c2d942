"""All images of a split come out in order, the bad ones are reported together, and an interrupt gets through."""

import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mimi_edge.errors import ConfigError
from mimi_edge.events import Advance, Event, Note
from mimi_edge.images import decode
from mimi_edge.images.dataset import Dataset, decode_dataset, decode_split, load_dataset
from mimi_edge.images.fitted import BLOCK
from mimi_edge.images.preprocessing import Preprocessing, fit
from mimi_edge.images.read_image import UnusableImageError
from mimi_edge.images.sources.builtin import ArrayImages
from mimi_edge.images.sources.folder import FileImages
from mimi_edge.images.splits import Split

HALF = (0.5, 0.5, 0.5)
SMALL = Preprocessing(size=8, resize=9, interpolation="bicubic", mean=HALF, std=HALF)
CLASSES = ("cat", "dog")


def file_split(folder: Path, count: int, bad: Sequence[int] = (), name: str = "train") -> Split:
    """Images of `cat` and `dog` in turn, each of its own size and content."""
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{number:04}.png" for number in range(count)]
    for number, path in enumerate(paths):
        if number in bad:
            path.write_bytes(b"")
        else:
            values = np.random.default_rng(number).integers(0, 256, (5 + number % 7, 9, 3), np.uint8)
            Image.fromarray(values).save(path)
    origins = tuple(path.name for path in paths)
    return Split(name, CLASSES, np.arange(count) % 2, origins, FileImages(tuple(paths)))


@pytest.mark.parametrize("workers", [1, 2, 5, None])
def test_order_is_that_of_the_split(workers: int | None, tmp_path: Path) -> None:
    split = file_split(tmp_path, 150)
    decoded = decode_split(split, SMALL, workers=workers)
    assert decoded.images.shape == (150, 8, 8, 3)
    assert decoded.images.dtype == np.uint8
    assert decoded.skipped == ()
    np.testing.assert_array_equal(decoded.labels, split.labels)
    for index in range(150):
        np.testing.assert_array_equal(decoded.images[index], fit(split.image(index), SMALL))


def test_progress_begins_at_none_and_ends_at_all(tmp_path: Path) -> None:
    heard: list[Event] = []
    decode_split(file_split(tmp_path, 70), SMALL, listener=heard.append)
    advances = [event for event in heard if isinstance(event, Advance)]
    assert {event.stage for event in advances} == {"reading train images"}
    assert {event.total for event in advances} == {70}
    done = [event.done for event in advances]
    assert done[0] == 0
    assert done[-1] == 70
    assert done == sorted(set(done))


def test_progress_of_many_images_is_not_a_flood() -> None:
    heard: list[Event] = []
    images = ArrayImages(np.zeros((3000, 2, 2), np.uint8))
    split = Split("train", CLASSES, np.zeros(3000, np.int64), ("x",) * 3000, images)
    decode_split(split, SMALL, listener=heard.append)
    assert 100 <= len(heard) <= 203


def test_one_bad_image_among_many_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        decode_split(file_split(tmp_path, 300, bad=[123]), SMALL)
    assert "1 of 300 train images cannot be used" in str(caught.value)
    assert "0123.png: an empty file" in str(caught.value)
    assert "--skip-bad-images" in str(caught.value)


def test_all_bad_images_come_in_one_error(tmp_path: Path) -> None:
    bad = list(range(10, 35))
    with pytest.raises(ConfigError) as caught:
        decode_split(file_split(tmp_path, 40, bad), SMALL)
    message = str(caught.value)
    assert "25 of 40 train images" in message
    assert [f"{number:04}.png" in message for number in bad] == [True] * 20 + [False] * 5
    assert "and 5 more" in message


def test_bad_images_of_all_splits_come_in_one_error(tmp_path: Path) -> None:
    splits = {name: file_split(tmp_path / name, 6, bad=[2], name=name) for name in ("train", "val", "test")}
    with pytest.raises(ConfigError) as caught:
        decode_dataset(Dataset("data", CLASSES, splits), SMALL)
    for name in splits:
        assert f"1 of 6 {name} images" in str(caught.value)
    decoded = decode_dataset(Dataset("data", CLASSES, splits), SMALL, skip_bad_images=True)
    assert [len(part.labels) for part in decoded.values()] == [5, 5, 5]


def test_bad_images_are_skipped_when_asked(tmp_path: Path) -> None:
    heard: list[Event] = []
    split = file_split(tmp_path, 20, bad=[3, 8])
    decoded = decode_split(split, SMALL, skip_bad_images=True, listener=heard.append)
    assert decoded.skipped == ("0003.png", "0008.png")
    good = [index for index in range(20) if index not in (3, 8)]
    np.testing.assert_array_equal(decoded.labels, split.labels[good])
    for row, index in enumerate(good):
        np.testing.assert_array_equal(decoded.images[row], fit(split.image(index), SMALL))
    told = [event.text for event in heard if isinstance(event, Note)]
    assert told == ["Skipped 2 of 20 train images: 0003.png, 0008.png."]


def test_a_class_left_without_images_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="none left of dog"):
        decode_split(file_split(tmp_path, 6, bad=[1, 3, 5]), SMALL, skip_bad_images=True)


class Interrupted:
    """Counts what is read."""

    def __init__(self) -> None:
        self.reads = 0

    def __call__(self, index: int) -> Image.Image:
        self.reads += 1
        return Image.new("RGB", (4, 4))


def test_an_interrupt_stops_the_reading() -> None:
    reader = Interrupted()
    split = Split("train", CLASSES, np.zeros(10_000, np.int64), ("x",) * 10_000, reader)

    def interrupt(event: Event) -> None:
        if isinstance(event, Advance) and event.done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decode_split(split, SMALL, listener=interrupt, workers=2)
    assert reader.reads <= 50 + 2 * BLOCK


def test_faults_of_ours_are_not_taken_for_bad_images() -> None:
    def broken(index: int) -> Image.Image:
        raise RuntimeError(index)

    split = Split("train", CLASSES, np.zeros(4, np.int64), ("x",) * 4, broken)
    with pytest.raises(RuntimeError):
        decode_split(split, SMALL, skip_bad_images=True)


def test_too_little_memory_is_said_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = file_split(tmp_path, 10)
    monkeypatch.setattr(decode, "free_memory_bytes", lambda: 1919)
    with pytest.raises(ConfigError, match=r"The 10 train images need 0\.0 GB of memory at 8 x 8 pixels"):
        decode_split(split, SMALL)
    monkeypatch.setattr(decode, "free_memory_bytes", lambda: 1920)
    decode_split(split, SMALL)


@pytest.mark.parametrize("bad", [(), (0, 3, 599)])
def test_no_more_memory_than_is_kept(bad: Sequence[int], tmp_path: Path) -> None:
    def read(index: int) -> Image.Image:
        if index in bad:
            raise UnusableImageError(Path("x"), "bad")
        return Image.new("RGB", (4, 4))

    count, large = 600, Preprocessing(size=64, resize=64, interpolation="nearest", mean=HALF, std=HALF)
    split = Split("train", CLASSES, np.arange(count) % 2, tuple(map(str, range(count))), read)
    tracemalloc.start()
    try:
        decoded = decode_split(split, large, skip_bad_images=True, workers=1)
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert decoded.images.nbytes == (count - len(bad)) * 3 * 64 * 64
    assert kept < 1.1 * decoded.images.nbytes
    assert peak < 1.1 * decoded.images.nbytes + BLOCK * 3 * 64 * 64


def test_copies_are_told(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    for split in ("train", "val", "test"):
        for label in CLASSES:
            for number in range(4):
                path = folder / split / label / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                shade = shade_of(split, label, number)
                Image.new("L", (9, 9), shade).save(path)
    Image.open(folder / "train/cat/0.png").convert("RGB").save(folder / "test/cat/copied.bmp")
    heard: list[Event] = []
    decode_dataset(load_dataset(folder, seed=0), SMALL, listener=heard.append)
    told = [event.text for event in heard if isinstance(event, Note)]
    assert len(told) == 1
    assert told[0].startswith("1 of 9 test images are train images too: test/cat/copied.bmp = train/cat/0.png. ")


def shade_of(split: str, label: str, number: int) -> int:
    """Another one for each."""
    return 40 * ("train", "val", "test").index(split) + 20 * CLASSES.index(label) + number


def test_photographs_and_damage_in_a_real_folder(tmp_path: Path) -> None:
    for label in CLASSES:
        for number in range(4):
            (tmp_path / label).mkdir(exist_ok=True)
            Image.new("L", (2000, 1500), number * 50).save(tmp_path / label / f"IMG {number} 📷.jpg")
    whole = (tmp_path / "cat" / "IMG 0 📷.jpg").read_bytes()
    (tmp_path / "cat" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    dataset = load_dataset(tmp_path, seed=0)
    with pytest.raises(ConfigError, match=r"cat/cut\.jpg: damaged or cut short"):
        decode_dataset(dataset, SMALL)
    decoded = decode_dataset(dataset, SMALL, skip_bad_images=True)
    assert sum(len(part.labels) for part in decoded.values()) == 8
