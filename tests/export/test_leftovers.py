"""What killed processes leave behind goes with the next one, and what somebody is writing stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mimi_edge import files
from mimi_edge.export import staging
from mimi_edge.export.staging import staging_folder, temporary_folder
from mimi_edge.files import whole_file, write_whole

WRITE_AND_WAIT = """
import sys, time
from pathlib import Path
from mimi_edge.files import whole_file
with whole_file(Path(sys.argv[1])) as beside:
    beside.write_bytes(b"half")
    print("ready", flush=True)
    time.sleep(60)
"""


def _hidden(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def _aged(path: Path) -> None:
    os.utime(path, (time.time() - 3600,) * 2)


def test_what_a_killed_process_left_of_a_file_goes_with_the_next_write_and_not_before_it_is_dead(tmp_path):
    path = tmp_path / "archive [1].tar"
    with subprocess.Popen([sys.executable, "-c", WRITE_AND_WAIT, str(path)], stdout=subprocess.PIPE) as writer:
        writer.stdout.readline()
        (part,) = _hidden(tmp_path)
        _aged(tmp_path / part)
        write_whole(path, b"other")
        assert _hidden(tmp_path) == [part]
        writer.send_signal(signal.SIGKILL)
    write_whole(path, b"whole")
    assert _hidden(tmp_path) == []
    assert path.read_bytes() == b"whole"


def test_what_is_not_marked_yet_and_what_is_of_another_file_stays(tmp_path):
    for name in (".file.new.part", ".other.old.part", ".file.folder.part"):
        (tmp_path / name).mkdir() if "folder" in name else (tmp_path / name).touch()
        if "new" not in name:
            _aged(tmp_path / name)
    write_whole(tmp_path / "file", b"whole")
    assert sorted(_hidden(tmp_path)) == [".file.folder.part", ".file.new.part", ".other.old.part"]


def test_a_write_within_a_write_of_the_same_file_leaves_it_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "ABANDONED_SECONDS", -1)
    with whole_file(tmp_path / "file") as outer:
        outer.write_bytes(b"outer")
        write_whole(tmp_path / "file", b"inner")
        assert outer.exists()
    assert (tmp_path / "file").read_bytes() == b"outer"


def test_temporary_folders_of_killed_processes_go(tmp_path, monkeypatch):
    monkeypatch.setattr(staging.tempfile, "gettempdir", lambda: str(tmp_path))
    left = tmp_path / ".mimi-edge.abc.part"
    left.mkdir()
    (left / "file").touch()
    _aged(left)
    (tmp_path / ".mimi-edge.link.part").symlink_to(tmp_path)
    with temporary_folder() as folder:
        assert folder.parent == tmp_path
        assert not left.exists()
    assert [path.name for path in tmp_path.iterdir()] == [".mimi-edge.link.part"]


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs users")
def test_folders_of_other_users_stay(tmp_path, monkeypatch):
    left = tmp_path / ".package.abc.part"
    left.mkdir()
    _aged(left)
    monkeypatch.setattr(staging.os, "getuid", lambda: left.stat().st_uid + 1)
    with staging_folder(tmp_path / "package"):
        pass
    assert left.exists()
