"""What the cache holds, and what is never taken away."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

import numpy as np
import pytest

from mimi_edge.cached_files import DAY_SECONDS, KINDS, cached_entries, clear
from mimi_edge.images.dataset import decode_split
from mimi_edge.images.mapped import entry_of
from mimi_edge.images.preprocessing import Preprocessing
from mimi_edge.images.sources.builtin import ArrayImages
from mimi_edge.images.splits import Split

HALF = (0.5, 0.5, 0.5)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A folder entry and a file entry, and things that are not ours."""
    (tmp_path / "backbones" / "one").mkdir(parents=True)
    (tmp_path / "backbones" / "one" / "graph.onnx").write_bytes(bytes(100))
    (tmp_path / "backbones" / "one" / "sha256.json").write_bytes(bytes(11))
    (tmp_path / "hashes").mkdir()
    (tmp_path / "hashes" / "key").write_bytes(bytes(64))
    (tmp_path / "photographs").mkdir()
    (tmp_path / "photographs" / "mine").write_bytes(bytes(5))
    (tmp_path / "note.txt").write_bytes(bytes(5))
    return tmp_path


def test_entries_have_a_kind_and_a_size(cache: Path) -> None:
    assert [(one.kind, one.path.name, one.size_bytes) for one in cached_entries(cache)] == [
        ("backbones", "one", 111),
        ("hashes", "key", 64),
    ]
    assert cached_entries(cache / "none") == []


def test_only_what_is_ours_is_removed(cache: Path) -> None:
    assert clear(cached_entries(cache)) == []
    left = {str(path.relative_to(cache)) for path in cache.rglob("*")}
    assert left == {"backbones", "hashes", "photographs", "photographs/mine", "note.txt"}


def test_a_link_is_removed_and_not_what_it_leads_to(cache: Path) -> None:
    (cache / "hashes" / "link").symlink_to(cache / "photographs")
    assert clear(cached_entries(cache)) == []
    assert not (cache / "hashes" / "link").is_symlink()
    assert (cache / "photographs" / "mine").exists()


def test_older_is_by_the_last_use(cache: Path) -> None:
    old = time.time() - 10 * DAY_SECONDS
    for path in (cache / "backbones/one/graph.onnx", cache / "backbones/one/sha256.json", cache / "backbones/one"):
        os.utime(path, (old, old))
    assert [one.path.name for one in cached_entries(cache, 9)] == ["one"]
    assert cached_entries(cache, 11) == []
    os.utime(cache / "backbones/one/graph.onnx", (time.time(), old))  # it was read
    assert cached_entries(cache, 9) == []


@pytest.mark.parametrize("place", ["backbones", "backbones/one", "backbones/one/graph.onnx"])
@pytest.mark.parametrize("lock", [fcntl.LOCK_SH, fcntl.LOCK_EX])
def test_what_is_locked_stays(place: str, lock: int, cache: Path) -> None:
    descriptor = os.open(cache / place, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, lock)
        assert [one.path.name for one in clear(cached_entries(cache))] == ["one"]
        assert (cache / "backbones/one/graph.onnx").exists()
    finally:
        os.close(descriptor)
    assert clear(cached_entries(cache)) == []


def test_what_was_begun_a_moment_ago_stays(cache: Path) -> None:
    (cache / "backbones" / ".two.part").mkdir()
    assert [one.path.name for one in clear(cached_entries(cache))] == [".two.part"]


def test_mapped_images_stay_as_long_as_they_are_used(tmp_path: Path) -> None:
    preprocessing = Preprocessing(8, 8, "nearest", HALF, HALF)
    read = ArrayImages(np.random.default_rng(0).integers(0, 256, (5, 8, 8), np.uint8))
    split = Split("train", ("a", "b"), np.arange(5) % 2, tuple("vwxyz"), read)
    entry = entry_of(split, preprocessing, tmp_path / "images")
    for _ in range(2):  # as it is made, and as it is found
        decoded = decode_split(split, preprocessing, entry=entry)
        assert [one.path for one in clear(cached_entries(tmp_path))] == [entry.folder]
        assert decoded.images.any()
        del decoded
    assert clear(cached_entries(tmp_path)) == []
    assert not list((tmp_path / "images").iterdir())


def test_every_kind_is_a_folder_that_the_code_names() -> None:
    from mimi_edge.export.known_hashes import FOLDER as HASHES
    from mimi_edge.images.mapped import FOLDER as IMAGES

    assert {HASHES, IMAGES} <= set(KINDS)
