"""How many processes fit: from what one of each took, and what the machine and its container leave."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimi_edge.profiles import room
from mimi_edge.profiles.room import Room, room_here, taken_between, that_fit

GB = 10**9


@pytest.mark.parametrize(
    ("taken", "running", "left", "processes"),
    [
        (Room(1 * GB), 0, Room(100 * GB), 3),
        (Room(1 * GB), 0, Room(4 * GB), 3),
        (Room(1 * GB), 0, Room(3 * GB), 2),
        (Room(1 * GB), 0, Room(1 * GB), 1),
        (Room(1 * GB), 2 * GB, Room(9 * GB), 1),
        (Room(1 * GB), 1 * GB, Room(8 * GB), 2),
        (Room(1 * GB, 4 * GB), 0, Room(100 * GB, 6 * GB), 1),
        (Room(1 * GB, 0), 0, Room(100 * GB, 0), 3),
        (Room(1 * GB), 0, Room(None), 3),
        (Room(100 * GB), 0, Room(0), 1),
    ],
)
def test_half_of_what_is_left_is_for_further_processes(taken, running, left, processes):
    assert that_fit(3, taken, running, left) == processes


@given(st.integers(1, 9), *[st.integers(0, 10**12)] * 3)
def test_there_is_always_one_and_never_more_than_wanted(wanted, taken, running, left):
    assert 1 <= that_fit(wanted, Room(taken), running, Room(left)) <= wanted


def test_on_shared_memory_what_the_machine_lost_counts_too():
    before, after = Room(8 * GB, unified=True), Room(5 * GB, unified=True)
    assert taken_between(before, after, 1 * GB).host_bytes == 3 * GB
    assert taken_between(Room(8 * GB), Room(5 * GB), 1 * GB).host_bytes == 1 * GB
    assert taken_between(Room(8 * GB, 9 * GB), Room(8 * GB, 2 * GB), 1 * GB).device_bytes == 7 * GB


VERSION_2 = {"memory.max": "{limit}", "memory.current": "3000000", "memory.stat": "anon 5\ninactive_file 1000000\n"}
VERSION_1 = {
    "memory/memory.limit_in_bytes": "{limit}",
    "memory/memory.usage_in_bytes": "3000000",
    "memory/memory.stat": "cache 5\ntotal_inactive_file 1000000\n",
}


@pytest.mark.parametrize("files", [VERSION_2, VERSION_1], ids=["version 2", "version 1"])
@pytest.mark.parametrize(
    ("limit", "left"), [("5000000", 3_000_000), ("1", 0), ("max", 8_000_000), ("9" * 19, 8_000_000)]
)
def test_a_container_leaves_what_its_limit_leaves(tmp_path, monkeypatch, files, limit, left):
    monkeypatch.setattr(room, "_device_bytes", lambda: None)
    content = {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    content["proc/meminfo"] = "MemTotal: 9000 kB\nMemAvailable: 7813 kB\n"
    for name, text in content.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text.format(limit=limit))
    assert room_here(tmp_path).host_bytes == pytest.approx(left, abs=1024)
