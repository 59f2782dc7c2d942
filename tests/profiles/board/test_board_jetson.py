"""The state of a Jetson, from recorded trees of three releases of Linux for Tegra."""

import types

import pytest
from board_samples import AGX_ORIN, AGX_XAVIER, ORIN_NANO, THOR, write_tree

from mimi_edge.errors import MimiEdgeError
from mimi_edge.profiles.board import jtop_meter
from mimi_edge.profiles.board.jetson import is_jetson, jetson_meter, jetson_state
from mimi_edge.profiles.board.jtop_meter import JtopMeter, open_jtop


def test_everything_an_orin_nano_tells_is_read(tmp_path):
    state = jetson_state(write_tree(tmp_path, ORIN_NANO))
    assert state.model == "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super"
    assert state.l4t == "36.4.3"
    assert state.power_mode == "MAXN_SUPER"
    assert state.clocks_fixed is False
    assert (state.gpu.most_hz, state.gpu.now_hz) == (1_020_000_000, 612_000_000)
    assert state.cpu.least_hz == 729_600_000
    # A zone that cannot be read and one without a sensor are left out.
    assert state.temperatures_c == {"cpu-thermal": 51.5, "gpu-thermal": 49.25, "tj-thermal": 51.5}
    assert state.throttling.active == {}
    assert state.throttling.events == {
        "under-voltage": 0,
        "average over-current": 1,
        "instantaneous over-current": 2,
    }
    assert state.memory.total_bytes == 7_800_000 * 1024
    assert state.memory.unified


@pytest.mark.parametrize(
    ("board", "l4t", "mode", "fixed"),
    [
        (AGX_ORIN, "35.4.1", "0", True),
        (THOR, "38.2.0", None, False),
        (AGX_XAVIER, "32.7.3", None, None),
    ],
    ids=["agx orin 35", "thor 38", "agx xavier 32"],
)
def test_other_releases_are_read_as_far_as_they_tell(board, l4t, mode, fixed, tmp_path):
    root = write_tree(tmp_path, board)
    state = jetson_state(root)
    assert is_jetson(root)
    assert (state.l4t, state.power_mode, state.clocks_fixed) == (l4t, mode, fixed)


def test_a_fan_is_no_throttling_and_an_alert_is(tmp_path):
    write_tree(tmp_path, ORIN_NANO)
    (tmp_path / "sys/class/thermal/cooling_device2/cur_state").write_text("1\n")
    assert jetson_state(tmp_path).throttling.active == {"gpu-throttle-alert": 1}


def test_one_core_that_is_off_does_not_count(tmp_path):
    write_tree(tmp_path, AGX_ORIN)
    write_tree(tmp_path, {"sys/devices/system/cpu/cpu1/cpufreq/scaling_min_freq": 1})
    assert jetson_state(tmp_path).clocks_fixed is False
    write_tree(tmp_path, {"sys/devices/system/cpu/cpu1/online": 0})
    assert jetson_state(tmp_path).clocks_fixed is True


def test_no_file_is_so_damaged_that_reading_fails(tmp_path):
    whole = jetson_state(write_tree(tmp_path, ORIN_NANO))
    for name in sorted(name for name, text in ORIN_NANO.items() if text is not None):
        path = tmp_path / name
        content = path.read_bytes()
        path.write_bytes(b"\xff\xfe\0nonsense\n< POWER_MODEL >")
        jetson_state(tmp_path)
        path.unlink()
        jetson_state(tmp_path)
        path.mkdir()
        jetson_state(tmp_path)
        path.rmdir()
        path.write_bytes(content)
    assert jetson_state(tmp_path) == whole


def test_a_machine_that_is_no_jetson_is_known(tmp_path):
    assert not is_jetson(tmp_path)
    state = jetson_state(tmp_path)
    assert state.model is None
    assert state.temperatures_c == {}
    with pytest.raises(MimiEdgeError, match="jetson-stats was not asked"):
        jetson_meter(tmp_path)


class Service:
    """What `jtop.jtop` is to its users, as jetson-stats 4 has it."""

    def __init__(self, interval=1.0):
        self.alive, self.closed = True, False

    def start(self):
        pass

    def ok(self):
        return self.alive

    def close(self):
        self.closed = True

    @property
    def power(self):
        # It takes the total out of the rails and tells its name.
        return {
            "rail": {"VDD_CPU_GPU_CV": {"power": 800}, "VDD_SOC": {"power": 400}},
            "tot": {"power": 5000, "name": "VDD_IN"},
        }


class ServiceOfAgxOrin(Service):
    @property
    def power(self):
        # Where no rail is a total, its own is the sum of all, one of which is part of another.
        rails = {"VDD_GPU_SOC": 3000, "VDD_CPU_CV": 1000, "VIN_SYS_5V0": 4000, "VDDQ_VDD2_1V8AO": 900}
        return {"rail": {name: {"power": power} for name, power in rails.items()}, "tot": {"power": 8900}}


class DeadService(Service):
    def start(self):
        raise RuntimeError("The jtop.service is not active")


@pytest.fixture
def installed(monkeypatch):
    def install(service):
        monkeypatch.setattr(jtop_meter, "import_module", lambda name: types.SimpleNamespace(jtop=service))

    return install


def test_jetson_stats_is_asked_for_the_total(installed):
    installed(Service)
    meter = open_jtop()
    assert meter.read().rails == {"VDD_IN": 5.0}
    assert "VDD_IN from jetson-stats" in meter.description


def test_its_own_total_is_not_used_where_it_counts_twice(installed):
    installed(ServiceOfAgxOrin)
    assert open_jtop().read().watts == pytest.approx(8.0)


def test_a_service_that_does_not_answer_is_told_and_closed(installed):
    made = []

    class Noted(DeadService):
        def __init__(self, interval=1.0):
            super().__init__(interval)
            made.append(self)

    installed(Noted)
    with pytest.raises(MimiEdgeError, match="sudo systemctl start jtop"):
        open_jtop()
    assert made[0].closed


def test_a_service_that_stops_is_an_error_of_the_system():
    service = Service()
    meter = JtopMeter(service)
    service.alive = False
    with pytest.raises(OSError, match="stopped answering"):
        meter.read()


@pytest.mark.usefixtures("from_an_index")
def test_without_jetson_stats_the_line_that_installs_it_is_told(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError("No module named 'jtop'", name="jtop")

    monkeypatch.setattr(jtop_meter, "import_module", missing)
    with pytest.raises(MimiEdgeError, match=r"mimi-edge\[jetson\]"):
        open_jtop()
