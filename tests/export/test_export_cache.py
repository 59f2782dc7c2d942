from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys

import pytest

from mimi_edge.caches import CACHE_VARIABLE, content_key, default_cache
from mimi_edge.errors import ConfigError
from mimi_edge.export import staging
from mimi_edge.export.cache import VanishedError, is_whole, new_entry

FILL_AND_DIE = """
import os, signal, sys
from pathlib import Path
from mimi_edge.export.cache import new_entry
with new_entry(Path(sys.argv[1])) as folder:
    (folder / "half").write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def _fill(entry, content=b"content"):
    with new_entry(entry) as folder:
        (folder / "file").write_bytes(content)


def test_entry_appears_whole_and_readable(tmp_path):
    entry = tmp_path / "cache" / "key"
    _fill(entry)
    assert is_whole(entry)
    assert (entry / "file").read_bytes() == b"content"
    assert stat.S_IMODE(entry.stat().st_mode) == 0o777 & ~_umask()
    assert [path.name for path in entry.parent.iterdir()] == ["key"]


def _umask():
    current = os.umask(0)
    os.umask(current)
    return current


@pytest.mark.parametrize("damage", ["alter", "truncate", "remove", "unseal", "garble"])
def test_damage_is_noticed_and_replaced(tmp_path, damage):
    entry = tmp_path / "key"
    _fill(entry)
    path = entry / ("sha256.json" if damage in {"unseal", "garble"} else "file")
    if damage in {"remove", "unseal"}:
        path.unlink()
    else:
        path.write_bytes({"alter": b"Content", "truncate": b"con", "garble": b"[1]"}[damage])
    assert not is_whole(entry)
    _fill(entry)
    assert is_whole(entry)
    assert (entry / "file").read_bytes() == b"content"


def test_two_at_once_both_succeed(tmp_path):
    entry = tmp_path / "key"
    with new_entry(entry) as first:
        with new_entry(entry) as second:
            (second / "file").write_bytes(b"second")
        (first / "file").write_bytes(b"first")
    assert is_whole(entry)
    assert (entry / "file").read_bytes() == b"second"
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_failed_entry_leaves_nothing(tmp_path):
    def fill_the_disk():
        with new_entry(tmp_path / "key") as folder:
            (folder / "file").write_bytes(b"half")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        fill_the_disk()
    assert not list(tmp_path.iterdir())


def test_killed_process_leaves_nothing_that_is_believed_and_is_cleaned_up(tmp_path, monkeypatch):
    entry = tmp_path / "key"
    killed = subprocess.run([sys.executable, "-c", FILL_AND_DIE, str(entry)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not entry.exists()
    assert len(list(tmp_path.iterdir())) == 1
    monkeypatch.setattr(staging, "SETTLING_SECONDS", -1)
    _fill(entry)
    assert is_whole(entry)
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_staging_of_a_living_process_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(staging, "SETTLING_SECONDS", -1)
    with staging.staging_folder(tmp_path / "key") as first:
        with staging.staging_folder(tmp_path / "key"):
            pass
        assert first.exists()


def test_unwritable_cache_says_which_option_helps(tmp_path, monkeypatch):
    def refuse(*_arguments, **_keywords):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(staging.tempfile, "mkdtemp", refuse)
    with pytest.raises(ConfigError, match="MIMI_EDGE_CACHE"):
        _fill(tmp_path / "key")


def test_default_cache_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    assert default_cache() == tmp_path
    monkeypatch.delenv(CACHE_VARIABLE)
    assert default_cache().name == "mimi-edge"


def test_key_depends_on_every_part():
    assert len({content_key(1, "a"), content_key(1, "b"), content_key(2, "a"), content_key(1), content_key("1a")}) == 5


@pytest.mark.parametrize("extra", ["left out", "link", "folder"])
def test_an_entry_with_a_file_that_its_seal_leaves_out_is_not_taken(tmp_path, extra):
    entry = tmp_path / "key"
    _fill(entry)
    if extra == "left out":
        (entry / "weights").write_bytes(b"of somebody else")
    elif extra == "folder":
        (entry / "more").mkdir()
    else:
        (entry / "file").rename(tmp_path / "aside")
        (entry / "file").symlink_to(tmp_path / "aside")
    assert not is_whole(entry)
    _fill(entry)
    assert is_whole(entry)


def test_a_cache_that_is_removed_while_it_is_filled_is_said_so(tmp_path):
    cache = tmp_path / "cache"
    with pytest.raises(VanishedError, match="was removed"), new_entry(cache / "key") as folder:  # noqa: PT012
        shutil.rmtree(cache)
        (folder / "file").write_bytes(b"content")
    with pytest.raises(VanishedError), new_entry(tmp_path / "cache" / "key"):
        shutil.rmtree(tmp_path / "cache")
