import platform

import pytest

from mimi_edge.profiles import environment
from mimi_edge.profiles.environment import cpu_model, current_environment, installed_versions, usable_cores


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
        monkeypatch.setattr(environment, constant, path)
    assert cpu_model() == expected
