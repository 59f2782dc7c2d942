import json
import platform
import subprocess
from dataclasses import asdict

import pytest

from mimi_edge.profiles.board import processor
from mimi_edge.profiles.board.find_board import Board, BoardState
from mimi_edge.profiles.board.processor import cpu_model, usable_cores
from mimi_edge.profiles.environment import (
    busy_marks,
    current_environment,
    git_revision,
    installed_versions,
)


def test_it_says_what_runs_here():
    found = current_environment(threads=2, providers=["CPUExecutionProvider"])
    assert found.python == platform.python_version()
    assert found.threads == 2
    assert found.providers == ("CPUExecutionProvider",)
    assert found.cores == usable_cores() >= 1
    assert found.cpu
    assert "numpy" in found.packages


def test_what_is_not_installed_is_left_out():
    assert set(installed_versions(["numpy", "no-such-package-at-all"])) == {"numpy"}


@pytest.mark.parametrize(
    ("cpu_info", "board", "expected"),
    [
        ("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz: fast\n", None, "Some CPU @ 2 GHz: fast"),
        ("processor\t: 0\nCPU part\t: 0xd42\n", "NVIDIA Jetson Orin Nano\0", "NVIDIA Jetson Orin Nano"),
        (None, "A board\0", "A board"),
        (None, None, platform.processor() or platform.machine()),
    ],
)
def test_the_processor_s_name_is_found_where_it_is(tmp_path, monkeypatch, cpu_info, board, expected):
    for constant, content in (("CPU_INFO", cpu_info), ("BOARD_NAME", board)):
        path = tmp_path / constant
        if content is not None:
            path.write_text(content)
        monkeypatch.setattr(processor, constant, path)
    assert cpu_model() == expected


def test_the_revision_is_that_of_the_checkout_around(tmp_path, monkeypatch):
    assert git_revision(tmp_path) is None
    git = ["git", "-c", "user.name=A", "-c", "user.email=a@b.example", "-C", str(tmp_path)]
    try:
        subprocess.run([*git, "init", "-q"], check=True)
    except OSError:
        pytest.skip("git is not installed")
    assert git_revision(tmp_path) is None
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    revision = git_revision(tmp_path)
    assert revision is not None
    assert len(revision) == 40
    (tmp_path / "below").mkdir()
    assert git_revision(tmp_path / "below") == revision
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_revision(tmp_path) is None


@pytest.mark.parametrize(
    ("load", "cores", "marked"), [(None, 2, False), (0.9, 2, False), (1.1, 2, True), (4, 8, False)]
)
def test_a_busy_machine_is_marked(load, cores, marked):
    assert bool(busy_marks(load, cores)) == marked


def test_a_gpu_s_state_is_told_and_goes_through_json():
    state = BoardState(
        temperatures_c={"gpu": 50.0},
        throttling=("power limit",),
        warnings=("Somebody else is here.",),
        facts={"name": "GPU", "clocks_mhz": {"graphics": 1500}, "others": ()},
    )
    board = Board("gpu", "GPU", False, None, "no sensors", lambda: state)
    found = current_environment(board=board)
    assert found.gpu == {"name": "GPU", "clocks_mhz": {"graphics": 1500}, "others": []}
    assert found.board["temperatures_c"] == {"gpu": 50.0}
    assert "facts" not in found.board
    assert found.marks[-2:] == ("Somebody else is here.", "Held back before the measurement: power limit.")
    assert json.loads(json.dumps(asdict(found)))["gpu"] == found.gpu
