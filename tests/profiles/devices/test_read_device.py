"""A profile of one's own: every fault of a file is told at once, and none is passed over."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mimi_edge.errors import ConfigError
from mimi_edge.profiles.devices.quantities import BANDWIDTH, FLOATING, INTEGER, POWER, SIZE, TIME, parse_quantity
from mimi_edge.profiles.devices.read_device import check_device, read_device

GOOD = """
schema: 1
name: my-board
title: My board
kind: gpu
compute_capability: "8.6"
memory: 8 GiB
memory_bandwidth: 68.5 GB/s
performance: {fp32: 1.5 TFLOPS, int8: 20 TOPS}
launch_overhead: {value: 3 us, assumption: a guess}
power_modes:
  - {name: low, power: 7 W, memory_bandwidth: 34 GB/s}
  - {name: high, performance: {fp32: 2 TFLOPS}}
jetpack:
  - {version: "6.2", tensorrt: "10.3"}
sources:
  - {title: A data sheet, publisher: Somebody}
"""

BAD = """
schema: 2
name: My Board
title: 7
kind: toaster
compute_capability: 8.6
memory: -8 GB
memory_bandwidth: 68 Gb/s
unified_memory: sometimes
performance: {fp32: 1 TOPS, int8: 0 TOPS, fp4: 1 TFLOPS}
launch_overhead: {value: 3}
power_modes: [{name: low, power: 7}, {name: low, colour: red}]
colour: red
"""


def written(folder, text):
    path = folder / "board.yaml"
    path.write_text(text)
    return path


def test_a_good_file_is_read_with_its_units(tmp_path):
    device = read_device(written(tmp_path, GOOD))
    assert device.memory_bytes == 8 * 2**30
    assert device.memory_bytes_per_s == 68.5e9
    assert device.operations_per_s == {"fp32": 1.5e12, "int8": 20e12}
    assert device.launch_overhead.seconds == pytest.approx(3e-6)
    low, high = device.in_mode("low"), device.in_mode("high")
    assert (low.memory_bytes_per_s, low.operations_per_s["fp32"]) == (34e9, 1.5e12)
    assert (high.memory_bytes_per_s, high.operations_per_s["fp32"]) == (68.5e9, 2e12)
    assert high.operations_per_s["int8"] == 20e12
    assert device.jetpacks[0].cuda is None


def test_every_fault_of_a_file_is_told_at_once(tmp_path):
    with pytest.raises(ConfigError) as error:
        read_device(written(tmp_path, BAD))
    told = str(error.value)
    for fault in (
        "schema must be 1, got 2",
        "name must be small letters",
        "kind must be one of jetson, gpu, cpu",
        "compute_capability must be a text, got 8.6; write it in quotes",
        "memory must be positive",
        "memory_bandwidth has the unit 'Gb/s'",
        "unified_memory must be true or false",
        "performance.fp32 has the unit 'TOPS'",
        "performance.int8 must be positive",
        "performance.fp4 is unknown; known are fp32",
        "launch_overhead.value has no unit",
        "launch_overhead.assumption is missing",
        "power_modes[1].power has no unit",
        "power_modes[2].name 'low' is given twice",
        "power_modes[2].colour is unknown",
        "colour is unknown",
        "sources is missing",
    ):
        assert fault in told, fault


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "expected keys and values"),
        ("- a list", "expected keys and values"),
        ("a: [", "no YAML"),
        ("a: !!python/object/apply:os.system [ls]", "tags (line 1)"),
        ("a: !!bool abc", "tags (line 1)"),
        (GOOD.replace("8 GiB", "_"), "memory is no quantity"),
        ("\x00", "no YAML"),
        ("x" * 200_000, "a profile has a few thousand"),
        (GOOD.replace("sources:", "notes:"), "sources is missing"),
        (GOOD.replace("  - {title: A data sheet, publisher: Somebody}", "  - a data sheet"), "sources[1] must hold"),
        (GOOD.replace("name: my-board", "name:"), "name is missing"),
        (GOOD.replace("performance: {", "performance: {fp32: 1 TFLOPS, "), "'fp32' is given twice"),
        (GOOD.replace("1.5 TFLOPS", ".nan"), "performance.fp32"),
        (GOOD.replace("1.5 TFLOPS", "1e999 TFLOPS"), "performance.fp32 must be positive"),
        ("&a [*a]", "aliases (line 1)"),
        ("&a {name: *a}", "aliases (line 1)"),
        (GOOD + "? [a, list]\n: value\n", "is no key (line 18)"),
        (GOOD + "2026-01-01: value\n", "2026-01-01 is unknown"),
        (GOOD + "notes: [{a: b}]\n", "notes[1] must be a text"),
    ],
)
def test_what_is_no_profile_is_refused_with_the_reason(text, fault, tmp_path):
    with pytest.raises(ConfigError, match=r"is no device profile") as error:
        read_device(written(tmp_path, text))
    assert fault in str(error.value)


def test_a_small_file_makes_no_large_message(tmp_path):
    levels = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{chr(98 + level)}: &{chr(98 + level)} [{', '.join([f'*{chr(97 + level)}'] * 9)}]\n" for level in range(8)
    )
    many = "\n".join(f"key{number}: [{'x' * 200}]" for number in range(250))
    for text in (levels, many, f"name: {'x' * 9000}\n", f"? {'x' * 900}\n: 1\n" * 3):
        with pytest.raises(ConfigError) as error:
            read_device(written(tmp_path, text))
        assert len(str(error.value)) < 10_000


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_device(tmp_path / "gone.yaml")


KEYS = st.sampled_from([*yaml.safe_load(GOOD), "value", "name", "odd", 7])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("8 GB")
DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=6),
    max_leaves=12,
)


@given(st.dictionaries(KEYS, DOCUMENTS))
def test_whatever_a_document_holds_is_a_profile_or_a_list_of_faults(tmp_path_factory, document):
    path = written(tmp_path_factory.mktemp("any"), yaml.safe_dump(yaml.safe_load(GOOD) | document))
    device, faults = check_device(path)
    assert (device is None) == bool(faults)


@given(
    st.sampled_from([SIZE, BANDWIDTH, FLOATING, INTEGER, POWER, TIME]).flatmap(
        lambda kind: st.tuples(st.just(kind), st.sampled_from(sorted(kind.scales)))
    ),
    st.integers(1, 10**6),
)
def test_a_quantity_is_its_number_times_its_unit(kind_and_unit, number):
    kind, unit = kind_and_unit
    for text in (f"{number} {unit}", f" {number}{unit} ", f"{number}.0 {unit}"):
        assert parse_quantity(text, kind) == pytest.approx(number * kind.scales[unit])


@pytest.mark.parametrize("text", ["8 gb", "8 GB/s", "GB", "8", 8, True, None, [8], "8 8 GB", "0x8 GB", "", "1,5 GB"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ValueError, match=r"quantity|unit"):
        parse_quantity(text, SIZE)
