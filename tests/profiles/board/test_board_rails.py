"""Which rails a board has and which are summed: no watt twice."""

import pytest
from board_samples import AGX_ORIN, AGX_XAVIER, ORIN_NANO, THOR, write_tree
from hypothesis import given
from hypothesis import strategies as st

from mimi_edge.errors import MimiEdgeError
from mimi_edge.profiles.board.rails import INCLUDED, TOTALS, RailMeter, choose_rails, find_rails


@pytest.mark.parametrize(
    ("board", "summed", "watts"),
    [
        (ORIN_NANO, {"VDD_IN": 10.0}, 10.0),
        (AGX_ORIN, {"VDD_GPU_SOC": 5.7, "VDD_CPU_CV": 1.9, "VIN_SYS_5V0": 4.5}, 12.1),
        (THOR, {"VIN": 42.5}, 42.5),
        (AGX_XAVIER, {"GPU": 1, "CPU": 1, "SOC": 1, "CV": 2, "VDDRQ": 2, "SYS5V": 2}, 9.0),
    ],
    ids=["orin nano 36", "agx orin 35", "thor 38", "agx xavier 32"],
)
def test_the_power_of_a_board_is_its_total_or_the_sum_of_its_parts(board, summed, watts, tmp_path):
    meter = RailMeter(find_rails(write_tree(tmp_path, board)))
    reading = meter.read()
    assert reading.rails == pytest.approx(summed)
    assert reading.watts == pytest.approx(watts)
    for name in summed:
        assert name in meter.description


def test_what_was_left_out_is_recorded_with_the_reason(tmp_path):
    nano = RailMeter(find_rails(write_tree(tmp_path / "nano", ORIN_NANO))).choice
    assert nano.left_out == {"VDD_CPU_GPU_CV": "part of VDD_IN", "VDD_SOC": "part of VDD_IN"}
    assert nano.covers == "input of the module"
    orin = RailMeter(find_rails(write_tree(tmp_path / "orin", AGX_ORIN))).choice
    assert orin.left_out == {"VDDQ_VDD2_1V8AO": "part of VIN_SYS_5V0"}


def test_thor_without_its_input_monitor_is_the_sum_of_its_rails(tmp_path):
    files = {name: text for name, text in THOR.items() if "hwmon2" not in name}
    reading = RailMeter(find_rails(write_tree(tmp_path, files))).read()
    assert reading.watts == pytest.approx(12 * (0.5 + 1.0 + 1.5))


def test_one_chip_seen_by_two_paths_is_one_chip(tmp_path):
    twice = {
        **ORIN_NANO,
        **{
            name.replace("sys/bus/i2c/drivers/ina3221/1-0040/hwmon", "sys/class/hwmon"): text
            for name, text in ORIN_NANO.items()
            if "1-0040" in name
        },
    }
    names = [rail.name for rail in find_rails(write_tree(tmp_path, twice))]
    assert sorted(names) == ["VDD_CPU_GPU_CV", "VDD_IN", "VDD_SOC"]


def test_a_channel_that_is_switched_off_is_no_rail(tmp_path):
    chip = "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1"
    write_tree(tmp_path, {**ORIN_NANO, f"{chip}/in1_enable": 0})
    assert "VDD_IN" not in [rail.name for rail in find_rails(tmp_path)]


def test_a_sensor_that_stops_answering_is_an_error_of_the_system(tmp_path):
    meter = RailMeter(find_rails(write_tree(tmp_path, ORIN_NANO)))
    path = tmp_path / "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1/curr1_input"
    path.write_text("\n")
    with pytest.raises(OSError, match="holds no number"):
        meter.read()
    path.unlink()
    with pytest.raises(FileNotFoundError):
        meter.read()


def test_a_board_without_monitors_says_so(tmp_path):
    assert find_rails(tmp_path) == []
    with pytest.raises(MimiEdgeError, match="no power rails"):
        RailMeter([])


PARTS = ["VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO", "VDD_SOC", "CPU", "GPU", "odd"]


@given(st.sets(st.sampled_from([*TOTALS, *PARTS]), min_size=1))
def test_a_total_and_its_parts_are_never_summed_together(names):
    choice = choose_rails(names)
    assert {*choice.summed, *choice.left_out} == names
    assert not {*choice.summed} & {*choice.left_out}
    assert len(choice.summed) == 1 or not set(choice.summed) & set(TOTALS)
    for part, whole in INCLUDED.items():
        assert not {part, whole} <= set(choice.summed)
