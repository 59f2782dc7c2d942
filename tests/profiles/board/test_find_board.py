"""One entry for every kind of machine."""

import json
from dataclasses import asdict

import fake_pynvml
import pytest
from board_samples import AGX_XAVIER, ORIN_NANO, thermal, write_tree

from mimi_edge.profiles.board import nvml
from mimi_edge.profiles.board.find_board import BoardState, find_board, throttled_between


@pytest.fixture
def no_gpu(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError("No module named 'pynvml'", name="pynvml")

    monkeypatch.setattr(nvml, "import_module", missing)


@pytest.fixture
def a_gpu(monkeypatch):
    def install(**changes):
        monkeypatch.setattr(nvml, "import_module", lambda name: fake_pynvml.make(**changes))
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    return install


def test_a_jetson_is_known_by_its_files(tmp_path, a_gpu):
    a_gpu()
    board = find_board(write_tree(tmp_path, ORIN_NANO))
    state = board.read_state()
    assert (board.kind, board.unified_memory) == ("jetson", True)
    assert "Orin Nano" in board.name
    assert "VDD_IN from sysfs" in board.power_source
    assert board.meter.read().watts == pytest.approx(10)
    assert state.power_mode == "MAXN_SUPER"
    assert state.facts["l4t"] == "36.4.3"
    assert "jetson_clocks" in state.warnings[0]
    json.dumps(asdict(state))


def test_throttling_during_a_run_is_told_even_if_it_is_over(tmp_path, no_gpu):
    write_tree(tmp_path, ORIN_NANO)
    board = find_board(tmp_path)
    before = board.read_state()
    assert throttled_between(before, before) == ()
    (tmp_path / "sys/class/hwmon/hwmon0/oc3_event_cnt").write_text("9\n")
    (tmp_path / "sys/class/thermal/cooling_device2/cur_state").write_text("1\n")
    words = throttled_between(before, board.read_state())
    assert words == ("gpu-throttle-alert (state 1)", "7 instantaneous over-current events")


def test_a_jetson_without_sensors_says_why_there_is_no_power(tmp_path):
    files = {name: text for name, text in AGX_XAVIER.items() if "iio" not in name}
    board = find_board(write_tree(tmp_path, files))
    assert board.meter is None
    assert "no power rails" in board.no_power
    assert board.power_source.startswith("no power")


def test_a_desktop_gpu_tells_through_nvml(tmp_path, a_gpu):
    others = [fake_pynvml.process(77, 10**6)]
    a_gpu(nvmlDeviceGetComputeRunningProcesses=lambda _handle: others)
    board = find_board(tmp_path)
    state = board.read_state()
    assert (board.kind, board.name, board.unified_memory) == ("gpu", "NVIDIA Sample", False)
    assert state.temperatures_c == {"gpu": 55.0}
    assert state.throttling == ("power limit", "temperature, by the hardware")
    assert "process 77" in state.warnings[0]
    assert board.meter.read().counter_joules == 5.0
    json.dumps(asdict(state))


def test_else_it_is_the_cpu_and_what_it_tells(tmp_path, no_gpu):
    zone = "sys/class/powercap/intel-rapl:0"
    files = {f"{zone}/name": "package-0", f"{zone}/energy_uj": 1, f"{zone}/max_energy_range_uj": 100}
    write_tree(
        tmp_path,
        files
        | thermal(
            [("x86_pkg_temp", 61000)], [("Processor", 2), ("Fan", 5), ("TCC Offset", 10), ("intel_powerclamp", -1)]
        ),
    )
    board = find_board(tmp_path)
    state = board.read_state()
    assert (board.kind, bool(board.name)) == ("cpu", True)
    assert "RAPL" in board.power_source
    assert state.temperatures_c == {"x86_pkg_temp": 61.0}
    assert state.throttling == ("Processor (state 2)",)
    assert "nvidia-ml-py is not installed" in state.facts["no_gpu"]


def test_a_bare_machine_is_a_board_too(tmp_path, no_gpu):
    board = find_board(tmp_path)
    assert board.meter is None
    assert "no energy counters" in board.no_power
    assert board.read_state() == BoardState(facts=board.read_state().facts)
