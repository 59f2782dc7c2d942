"""Memory that is left: of the system, and of every control group around this process."""

from __future__ import annotations

from pathlib import Path

import pytest

from mimi_edge.free_memory import free_memory_bytes

MB = 1_000_000
SYSTEM = {"proc/meminfo": "MemTotal: 9000 kB\nMemAvailable: 8000 kB\n"}
LEFT_IN_SYSTEM = 8000 * 1024
STATISTICS = {2: "anon 5\ninactive_file 1000000\n", 1: "cache 5\ntotal_inactive_file 1000000\n"}


def system(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def group(version: int, name: str, limit: object, taken: int = 3 * MB) -> dict[str, str]:
    """A group that takes so many bytes, a million of them as a cache of files."""
    folder = "sys/fs/cgroup" + ("" if version == 2 else "/memory") + name
    limits, takes = {2: ("memory.max", "memory.current"), 1: ("memory.limit_in_bytes", "memory.usage_in_bytes")}[
        version
    ]
    return {
        f"{folder}/{limits}": f"{limit}\n",
        f"{folder}/{takes}": f"{taken}\n",
        f"{folder}/memory.stat": STATISTICS[version],
    }


def inside(version: int, name: str) -> dict[str, str]:
    return {"proc/self/cgroup": f"0::{name}\n" if version == 2 else f"9:pids:/\n4:memory:{name}\n0::/\n"}


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    ("limit", "left"), [(5 * MB, 3 * MB), (1, 0), ("max", LEFT_IN_SYSTEM), ("9" * 19, LEFT_IN_SYSTEM)]
)
def test_a_group_leaves_what_its_limit_leaves(version: int, limit: object, left: int, tmp_path: Path) -> None:
    root = system(tmp_path, SYSTEM | group(version, "/jobs/mine", limit) | inside(version, "/jobs/mine"))
    assert free_memory_bytes(root) == left


@pytest.mark.parametrize("version", [1, 2])
def test_the_narrowest_of_the_groups_around_it_decides(version: int, tmp_path: Path) -> None:
    groups = group(version, "/jobs", 4 * MB) | group(version, "/jobs/mine", 6 * MB) | group(version, "", 7 * MB)
    root = system(tmp_path, SYSTEM | groups | inside(version, "/jobs/mine"))
    assert free_memory_bytes(root) == 2 * MB


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("said", [{}, {"own": True}])
def test_in_a_container_the_outermost_group_is_its_own(version: int, said: dict[str, bool], tmp_path: Path) -> None:
    """Docker without a name space of its own says the group's name of the machine outside, which is not to be seen."""
    own = inside(version, "/docker/0123/../abc") if said else {}
    assert free_memory_bytes(system(tmp_path, SYSTEM | group(version, "", 5 * MB) | own)) == 3 * MB


def test_another_process_s_group_says_nothing(tmp_path: Path) -> None:
    root = system(tmp_path, SYSTEM | group(2, "/jobs/other", 1) | inside(2, "/jobs/mine"))
    assert free_memory_bytes(root) == LEFT_IN_SYSTEM


@pytest.mark.parametrize("text", ["", "MemAvailable: many kB\n", "MemTotal: 9000 kB\n"])
def test_where_nobody_tells_nothing_is_known(text: str, tmp_path: Path) -> None:
    assert free_memory_bytes(system(tmp_path, {"proc/meminfo": text})) is None
    assert free_memory_bytes(tmp_path / "nowhere") is None


def test_here_some_is_left() -> None:
    left = free_memory_bytes()
    assert left is None or left > 0
