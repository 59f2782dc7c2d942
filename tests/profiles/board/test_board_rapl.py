"""CPU counters: packages only, wrapped counters, and permission."""

import pytest
from board_samples import write_tree

from mimi_edge.errors import MimiEdgeError
from mimi_edge.profiles.board.power import PowerSamples
from mimi_edge.profiles.board.rapl import RaplMeter

ZONE = "sys/class/powercap/intel-rapl:{}"


@pytest.fixture
def machine(tmp_path):
    """Two packages, the cores of one, and the platform that has all in it."""
    files = {}
    for zone, name, energy in (
        ("0", "package-0", 9_000_000),
        ("0:0", "core", 1),
        ("1", "package-1", 0),
        ("2", "psys", 5),
    ):
        files |= {
            f"{ZONE.format(zone)}/name": name,
            f"{ZONE.format(zone)}/energy_uj": energy,
            f"{ZONE.format(zone)}/max_energy_range_uj": 9_999_999,
        }
    return write_tree(tmp_path, files)


def energy(machine, zone, value):
    (machine / ZONE.format(zone) / "energy_uj").write_text(f"{value}\n")


def test_packages_are_summed_and_a_wrapped_counter_goes_on(machine):
    meter = RaplMeter(machine)
    first = meter.read()
    energy(machine, "0", 2_000_000)
    energy(machine, "1", 500_000)
    second = meter.read()
    assert second.counter_joules - first.counter_joules == pytest.approx(3 + 0.5)
    assert set(second.rails) == {"package-0", "package-1"}
    assert second.watts == pytest.approx(sum(second.rails.values()))
    found = PowerSamples((first, second)).energy(first.at_ns, second.at_ns)
    assert found.joules == pytest.approx(3.5)
    assert found.method == "counter"
    assert "package-0 + package-1" in meter.description


def test_a_counter_that_may_not_be_read_is_told(machine):
    path = machine / ZONE.format("1") / "energy_uj"
    path.unlink()
    path.mkdir()
    with pytest.raises(MimiEdgeError, match="only root may read"):
        RaplMeter(machine)


def test_a_machine_without_counters_is_told(tmp_path):
    with pytest.raises(MimiEdgeError, match="no energy counters"):
        RaplMeter(tmp_path)
