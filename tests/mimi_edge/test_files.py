"""Files that appear whole or not at all."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from full_disk import room_for

from mimi_edge.errors import ConfigError
from mimi_edge.files import check_place, sha256_of, whole_file, write_whole


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_mode_follows_the_umask(tmp_path: Path, mask: int, mode: int) -> None:
    with umask(mask):
        write_whole(tmp_path / "file", b"content")
        assert os.umask(mask) == mask
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    with room_for(1000), pytest.raises(OSError, match=r"large|space"):
        write_whole(tmp_path / "file", b"x" * 5000)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_old_file_as_it_was(tmp_path: Path) -> None:
    write_whole(tmp_path / "file", b"old")
    with room_for(1000), pytest.raises(OSError, match=r"large|space"):
        write_whole(tmp_path / "file", b"x" * 5000)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"file": b"old"}


def test_nothing_has_the_final_name_while_it_is_written(tmp_path: Path) -> None:
    with whole_file(tmp_path / "file") as beside:
        beside.write_bytes(b"half")
        assert not (tmp_path / "file").exists()
        assert beside.parent == tmp_path
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_interruption_leaves_nothing_behind(tmp_path: Path) -> None:
    def interrupted() -> None:
        with whole_file(tmp_path / "file") as beside:
            beside.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_folders_are_made_and_old_content_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"
    write_whole(path, b"one")
    write_whole(path, b"two")
    assert path.read_bytes() == b"two"


def test_sha256(tmp_path: Path) -> None:
    content = os.urandom(3_000_000)
    (tmp_path / "file").write_bytes(content)
    assert sha256_of(tmp_path / "file") == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("place", ["new", "new/deep/name", "there"])
@pytest.mark.parametrize("folder", [False, True])
def test_a_place_that_can_be_written_is_left_as_it_was(tmp_path: Path, place: str, folder: bool) -> None:
    (tmp_path / "there").mkdir() if folder else (tmp_path / "there").write_text("kept")
    before = sorted(tmp_path.rglob("*"))
    check_place(tmp_path / place, folder=folder)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("place", "folder", "named"),
    [
        ("folder", False, "is a folder"),
        ("file", True, "is a file"),
        ("file/below", False, "is no folder"),
        ("file/below/deep", True, "is no folder"),
    ],
)
def test_a_place_that_is_taken_is_refused(tmp_path: Path, place: str, folder: bool, named: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match=named):
        check_place(tmp_path / place, folder=folder)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system that takes no files")
@pytest.mark.parametrize("folder", [False, True])
def test_a_place_that_takes_no_file_is_refused_for_root_too(folder: bool) -> None:
    with pytest.raises(ConfigError, match="takes no file"):
        check_place(Path("/proc/report.html"), folder=folder)
