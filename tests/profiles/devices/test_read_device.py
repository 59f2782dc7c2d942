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
        "schema: expected 1, got 2",
        "name: expected small letters, digits and single hyphens, got 'My Board'",
        "title: expected a text, got 7; write it in quotes",
        "kind: expected one of jetson, gpu, cpu, got 'toaster'",
        "compute_capability: expected '8.7' or the like, got 8.6; write it in quotes",
        "memory: not positive; expected something like '8 GB'",
        "memory_bandwidth: the unit is 'Gb/s'",
        "unified_memory: expected true or false, got 'sometimes'",
        "performance.fp32: the unit is 'TOPS'",
        "performance.int8: not positive",
        "performance.fp4 is not known; known are fp32, tf32, fp16, bf16, int8",
        "launch_overhead.value: no unit",
        "launch_overhead.assumption is missing",
        "power_modes[0].power: no unit",
        "power_modes[1].colour is not known; known are name, power, memory_bandwidth, performance",
        "colour is not known",
        "sources is missing",
    ):
        assert fault in told, fault


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "it: expected a table, got None"),
        ("- a list", "it: expected a table"),
        ("a: [", "no YAML"),
        ("a: !!python/object/apply:os.system [ls]", "tags (line 1)"),
        ("a: !!bool abc", "tags (line 1)"),
        (GOOD.replace("8 GiB", "_"), "memory: no quantity"),
        ("\x00", "no YAML"),
        ("x" * 200_000, "a profile has a few thousand"),
        (GOOD.replace("sources:", "notes:"), "sources is missing"),
        (
            GOOD.replace("  - {title: A data sheet, publisher: Somebody}", "  - a data sheet"),
            "sources[0]: expected a table",
        ),
        (GOOD.replace("name: my-board", "name:"), "name: expected small letters"),
        (GOOD.replace("performance: {", "performance: {fp32: 1 TFLOPS, "), "'fp32' is given twice"),
        (GOOD.replace("1.5 TFLOPS", ".nan"), "performance.fp32"),
        (GOOD.replace("1.5 TFLOPS", "1e999 TFLOPS"), "performance.fp32: not positive"),
        ("&a [*a]", "aliases (line 1)"),
        ("&a {name: *a}", "aliases (line 1)"),
        (GOOD + "? [a, list]\n: value\n", "is no key (line 18)"),
        (GOOD + "2026-01-01: value\n", "2026-01-01' is not known"),
        (GOOD.replace("name: high", "name: low"), "two power modes have one name (low, low)"),
        (GOOD.replace("  - {title: A data sheet, publisher: Somebody}", "  []"), "sources: expected at least one"),
        (GOOD.replace('"6.2"', "6.2"), "jetpack[0].version: expected a text, got 6.2; write it in quotes"),
        (GOOD + "notes: [{a: b}]\n", "notes[0]: expected a text"),
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
