"""Decoded images in a file: the same as in memory, gone on with after a kill, shared by two, and of this data."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from full_disk import room_for
from PIL import Image

from mimi_edge.caches import CACHE_VARIABLE
from mimi_edge.errors import ConfigError
from mimi_edge.events import Event, Note
from mimi_edge.images import free_room
from mimi_edge.images.dataset import Dataset, decode_dataset, decode_split
from mimi_edge.images.decode import LabelledImages
from mimi_edge.images.fitted import BLOCK
from mimi_edge.images.mapped import BLOCKS, PIXELS, Entry, entry_of
from mimi_edge.images.preprocessing import Preprocessing
from mimi_edge.images.sources.folder import FileImages
from mimi_edge.images.splits import Split

HALF = (0.5, 0.5, 0.5)
SMALL = Preprocessing(size=8, resize=9, interpolation="bicubic", mean=HALF, std=HALF)
COUNT = 3 * BLOCK + 5
IMAGE_BYTES = 3 * 8 * 8


def write_images(folder: Path, bad: tuple[int, ...] = ()) -> None:
    for number in range(COUNT):
        values = np.random.default_rng(number).integers(0, 256, (5 + number % 7, 9, 3), np.uint8)
        Image.fromarray(values).save(folder / f"{number:04}.png")
    for number in bad:
        (folder / f"{number:04}.png").write_bytes(b"")


def split_of(folder: Path) -> Split:
    paths = tuple(sorted(folder.glob("*.png")))
    origins = tuple(path.name for path in paths)
    return Split("train", ("cat", "dog"), np.arange(len(paths)) % 2, origins, FileImages(paths))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    write_images(folder)
    return folder


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


class Counted:
    """Reads images and counts them."""

    def __init__(self, split: Split) -> None:
        self.reads = 0
        self.paths = split.read.paths  # type: ignore[attr-defined]
        self._read = split.read

    def __call__(self, index: int) -> Image.Image:
        self.reads += 1
        return self._read(index)


def counted(folder: Path) -> tuple[Split, Counted]:
    split = split_of(folder)
    reader = Counted(split)
    return Split(split.name, split.classes, split.labels, split.origins, reader), reader


def entry(folder: Path, cache: Path) -> Entry:
    return entry_of(split_of(folder), SMALL, cache)


def mapped(folder: Path, cache: Path, *, skip: bool = False) -> LabelledImages:
    return decode_split(split_of(folder), SMALL, entry=entry(folder, cache), skip_bad_images=skip)


def assert_same(one: LabelledImages, other: LabelledImages) -> None:
    np.testing.assert_array_equal(one.images, other.images)
    np.testing.assert_array_equal(one.labels, other.labels)
    assert one.digests == other.digests
    assert one.skipped == other.skipped


def test_mapped_images_are_those_in_memory(data: Path, cache: Path) -> None:
    made, expected = mapped(data, cache), decode_split(split_of(data), SMALL)
    assert_same(made, expected)
    assert made.images.strides == expected.images.strides
    assert_same(mapped(data, cache), expected)


def test_what_is_there_is_not_decoded_again(data: Path, cache: Path) -> None:
    mapped(data, cache)
    split, reader = counted(data)
    decode_split(split, SMALL, entry=entry_of(split, SMALL, cache))
    assert 0 < reader.reads <= 16


def test_what_is_written_to_the_images_stays_out_of_the_file(data: Path, cache: Path) -> None:
    made = mapped(data, cache)
    made.images[:] = 0
    assert_same(mapped(data, cache), decode_split(split_of(data), SMALL))


@pytest.mark.parametrize("change", ["content", "time", "bad"])
def test_changed_data_is_decoded_again(change: str, data: Path, cache: Path) -> None:
    mapped(data, cache)
    first = data / "0000.png"
    status = first.stat()
    if change == "bad":
        first.write_bytes(b"")
    elif change == "content":  # with the size and times of the other one
        content = bytearray(status.st_size)
        Image.new("RGB", (9, 5), "red").save(data / "red.bmp")
        red = (data / "red.bmp").read_bytes()[: status.st_size]
        content[: len(red)] = red
        first.write_bytes(content)
        os.utime(first, ns=(status.st_atime_ns, status.st_mtime_ns))
    else:
        Image.new("RGB", (9, 9), "red").save(first)
    assert_same(mapped(data, cache, skip=True), decode_split(split_of(data), SMALL, skip_bad_images=True))


def test_bad_images_are_told_and_may_become_good(data: Path, cache: Path) -> None:
    path = data / "0040.png"
    good = path.read_bytes()
    path.write_bytes(bytes(len(good)))
    os.utime(path, ns=(1, 1))
    for _ in range(2):
        with pytest.raises(ConfigError, match=f"1 of {COUNT} train images cannot be used"):
            mapped(data, cache)
    assert_same(mapped(data, cache, skip=True), decode_split(split_of(data), SMALL, skip_bad_images=True))
    path.write_bytes(good)
    os.utime(path, ns=(1, 1))
    assert_same(mapped(data, cache), decode_split(split_of(data), SMALL))


def leave_unfinished(data: Path, cache: Path) -> Path:
    """What a killed process leaves: two whole blocks, and pixels and a note that were cut short."""
    mapped(data, cache)
    left = entry(data, cache)
    left.folder.rename(left.unfinished)
    pixels, notes = left.unfinished / PIXELS, left.unfinished / BLOCKS
    lines = notes.read_bytes().splitlines(keepends=True)
    notes.write_bytes(lines[0] + lines[1] + lines[2][:30])
    os.truncate(pixels, 2 * BLOCK * IMAGE_BYTES + 100)
    return left.unfinished


def test_whole_blocks_are_gone_on_with(data: Path, cache: Path) -> None:
    left = leave_unfinished(data, cache)
    split, reader = counted(data)
    assert_same(decode_split(split, SMALL, entry=entry_of(split, SMALL, cache)), decode_split(split_of(data), SMALL))
    assert reader.reads == COUNT - 2 * BLOCK
    assert not left.exists()


def test_a_block_whose_pixels_were_lost_is_decoded_again(data: Path, cache: Path) -> None:
    left = leave_unfinished(data, cache)
    with (left / PIXELS).open("r+b") as pixels:
        pixels.seek((BLOCK + 3) * IMAGE_BYTES)
        pixels.write(bytes(50))
    split, reader = counted(data)
    assert_same(decode_split(split, SMALL, entry=entry_of(split, SMALL, cache)), decode_split(split_of(data), SMALL))
    assert reader.reads == COUNT - BLOCK


def test_a_full_disk_is_said_and_then_gone_on_with(data: Path, cache: Path) -> None:
    with room_for(2 * BLOCK * IMAGE_BYTES + 10), pytest.raises(OSError) as caught:  # noqa: PT011
        mapped(data, cache)
    assert str(cache) in str(caught.value)
    split, reader = counted(data)
    assert_same(decode_split(split, SMALL, entry=entry_of(split, SMALL, cache)), decode_split(split_of(data), SMALL))
    assert reader.reads == COUNT - 2 * BLOCK


KILLED = """
import sys, time
from pathlib import Path
sys.path[:0] = sys.argv[3:]
import test_mapped as here
split, reader = here.counted(Path(sys.argv[1]))
read = reader._read
def slowly(index):
    time.sleep(0.01)
    return read(index)
reader._read = slowly
here.decode_split(split, here.SMALL, entry=here.entry_of(split, here.SMALL, Path(sys.argv[2])), workers=1)
"""


def begun(data: Path, cache: Path) -> subprocess.Popen[bytes]:
    """A process that decodes slowly, once it has noted a block."""
    here = Path(__file__).parent
    process = subprocess.Popen([sys.executable, "-c", KILLED, data, cache, here, here.parents[1]])
    notes = entry(data, cache).unfinished / BLOCKS
    while process.poll() is None and not (notes.exists() and notes.stat().st_size):
        time.sleep(0.005)
    assert process.poll() is None
    return process


def test_a_killed_process_is_gone_on_with(data: Path, cache: Path) -> None:
    process = begun(data, cache)
    process.send_signal(signal.SIGKILL)
    process.wait()
    split, reader = counted(data)
    assert_same(decode_split(split, SMALL, entry=entry_of(split, SMALL, cache)), decode_split(split_of(data), SMALL))
    assert reader.reads <= COUNT - BLOCK


def test_two_at_once_decode_once(data: Path, cache: Path) -> None:
    process = begun(data, cache)
    split, reader = counted(data)
    assert_same(decode_split(split, SMALL, entry=entry_of(split, SMALL, cache)), decode_split(split_of(data), SMALL))
    assert process.wait() == 0
    assert reader.reads <= 16


def test_threads_that_decode_the_same_all_get_it(data: Path, cache: Path) -> None:
    made: list[LabelledImages] = []
    threads = [threading.Thread(target=lambda: made.append(mapped(data, cache))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in made:
        assert_same(one, decode_split(split_of(data), SMALL))
    assert len(made) == 4
    assert [path.name for path in cache.iterdir()] == [entry(data, cache).folder.name]


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch, cache: Path) -> dict[str, int]:
    """Free bytes of memory and disk."""
    free = {"memory": 0, "disk": 0}
    monkeypatch.setenv(CACHE_VARIABLE, str(cache))
    monkeypatch.setattr(free_room, "free_memory_bytes", lambda: free["memory"])
    monkeypatch.setattr(free_room.shutil, "disk_usage", lambda _: SimpleNamespace(free=free["disk"]))
    return free


NEEDED = COUNT * IMAGE_BYTES


@pytest.mark.parametrize(
    ("images", "memory", "disk", "in_cache"),
    [
        ("auto", 2 * NEEDED, 0, False),
        ("auto", 2 * NEEDED - 1, NEEDED, True),
        ("auto", NEEDED, NEEDED - 1, False),
        ("auto", 0, NEEDED, True),
        ("memory", NEEDED, NEEDED, False),
        ("mapped", 9 * NEEDED, NEEDED, True),
    ],
)
def test_images_go_where_there_is_room(
    images: str, memory: int, disk: int, in_cache: bool, data: Path, cache: Path, room: dict[str, int]
) -> None:
    room.update(memory=memory, disk=disk)
    heard: list[Event] = []
    dataset = Dataset("data", ("cat", "dog"), {"train": split_of(data)})
    decode_dataset(dataset, SMALL, images=images, listener=heard.append)
    assert entry(data, cache / "images").folder.exists() is in_cache
    said = [event.text for event in heard if isinstance(event, Note)]
    assert [str(cache) in text for text in said] == [True] * in_cache


@pytest.mark.parametrize(
    ("images", "memory", "disk", "told"),
    [
        ("memory", NEEDED - 1, NEEDED, "Keep them in a file: --images mapped"),
        ("mapped", NEEDED, NEEDED - 1, f"Set {CACHE_VARIABLE} to a folder with more room"),
    ],
)
def test_too_little_room_is_said_before(
    images: str, memory: int, disk: int, told: str, data: Path, cache: Path, room: dict[str, int]
) -> None:
    room.update(memory=memory, disk=disk)
    with pytest.raises(ConfigError) as caught:
        decode_dataset(Dataset("data", ("cat", "dog"), {"train": split_of(data)}), SMALL, images=images)
    assert told in str(caught.value)
    assert "--images files" in str(caught.value)
    assert not cache.exists()


@pytest.mark.parametrize(("images", "why"), [("auto", True), ("files", False)])
def test_where_there_is_no_room_images_are_decoded_whenever_they_are_needed(
    images: str, why: bool, data: Path, cache: Path, room: dict[str, int]
) -> None:
    room.update(memory=NEEDED - 1, disk=NEEDED - 1)
    heard: list[Event] = []
    dataset = Dataset("data", ("cat", "dog"), {"train": split_of(data)})
    decoded = decode_dataset(dataset, SMALL, images=images, listener=heard.append)["train"]
    kept = decode_split(split_of(data), SMALL)
    assert (decoded.digests, decoded.labels.tolist(), len(decoded.images)) == (kept.digests, kept.labels.tolist(), 0)
    assert decoded.on_demand.decoded([3, 0]).tolist() == kept.images[[3, 0]].transpose(0, 3, 1, 2).tolist()
    (said,) = [event.text for event in heard if isinstance(event, Note)]
    assert said.startswith("Images are decoded anew whenever they are needed")
    assert ("There is no room for" in said) is why
    assert not cache.exists()


def test_what_is_there_needs_no_room(data: Path, cache: Path, room: dict[str, int]) -> None:
    dataset = Dataset("data", ("cat", "dog"), {"train": split_of(data)})
    room.update(disk=NEEDED)
    decode_dataset(dataset, SMALL, images="mapped")
    room.update(disk=0)
    decode_dataset(dataset, SMALL, images="mapped")
