"""What the files of the repository must not hold, and what its folders must."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOMS = ("mimi_edge", "cli", "export", "profiles")
REGISTRY_HOST = re.compile(rb"py[p]i\.[a-z]|python[h]osted|conda\.an[a]conda|registry\.np[m]js|://[^/\s]*/simp[l]e/")
"""Hosts that packages are fetched from. The brackets keep the pattern from finding itself."""
SCRATCH = re.compile(r"(\.orig|\.rej|\.swp|~|\.log|\.pth?|\.pkl|\.pickle|\.ckpt)$")


@pytest.fixture(scope="module")
def tracked(repository: Path) -> list[Path]:
    """Files git has, or would take with `git add .`."""
    if shutil.which("git") is None or not (repository / ".git").exists():
        pytest.skip("this is not a clone, so git cannot say what is tracked")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=repository, capture_output=True, check=True).stdout
    return [path for name in listed.split(b"\0") if name and (path := repository / name.decode()).is_file()]


def test_no_file_names_a_package_registry(tracked: list[Path], repository: Path) -> None:
    naming = [str(path.relative_to(repository)) for path in tracked if REGISTRY_HOST.search(path.read_bytes())]
    assert naming == []


def test_a_registry_would_be_found() -> None:
    for host in ("py|pi.org", "files.python|hosted.org", "https://mirror.example/sim|ple/"):
        assert REGISTRY_HOST.search(host.replace("|", "").encode()), host


def test_no_scratch_file_and_no_pickle_is_tracked(tracked: list[Path], repository: Path) -> None:
    names = [path.relative_to(repository).as_posix() for path in tracked]
    kept = {name for name in names if name.endswith(".log") and "pretraining" in name}
    assert [name for name in names if SCRATCH.search(name) and name not in kept] == []


def test_constraints_are_exact_and_without_addresses(repository: Path) -> None:
    lines = [line for line in (repository / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    odd = [
        line
        for line in lines
        if not re.fullmatch(r'[a-z0-9._-]+==[0-9a-z.]+( ; python_(full_)?version (<|>=|==) "3\.[0-9.]+")?', line)
    ]
    assert lines
    assert odd == []


def test_no_folder_of_modules_is_left_out_for_want_of_an_init(repository: Path) -> None:
    """setuptools finds packages by their __init__.py; a folder without one would be missing from the wheel."""
    folders = {file.parent for room in ROOMS for file in (repository / room).rglob("*.py")}
    assert [str(folder.relative_to(repository)) for folder in folders if not (folder / "__init__.py").exists()] == []
