"""The roofline: three bounds, the largest binds, and it is always called an estimate."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimi_edge.errors import ConfigError
from mimi_edge.profiles.devices.device import Device, LaunchOverhead, PowerMode
from mimi_edge.profiles.devices.roofline import compare, estimate
from mimi_edge.profiles.devices.work import Work

DEVICE = Device(
    name="sample",
    title="Sample",
    kind="gpu",
    memory_bytes_per_s=100e9,
    operations_per_s={"fp32": 1e12, "fp16": 4e12},
    launch_overhead=LaunchOverhead(5e-6, "a guess"),
    power_modes=(PowerMode("fast", memory_bytes_per_s=200e9, operations_per_s={"fp16": 8e12}),),
)
COUNTS = st.integers(1, 10**12)


@pytest.mark.parametrize(
    ("work", "bound", "ms"),
    [
        (Work(1, 8 * 10**9, 1000, 1000, 1), "compute", 2.0),
        (Work(1, 1000, 10**8, 5 * 10**7, 1), "bandwidth", 3.0),
        (Work(1, 1000, 1000, 1000, 200), "launch", 1.0),
    ],
)
def test_the_largest_bound_binds(work, bound, ms):
    found = estimate(DEVICE, work, "fp16")
    assert (found.bound, found.ms) == (bound, pytest.approx(ms))
    assert found.bounds_ms[bound] == max(found.bounds_ms.values())
    assert found.images_per_s == pytest.approx(1000 / ms)
    assert found.label == "estimate"


def test_a_power_mode_changes_what_it_says_and_nothing_else():
    work = Work(1, 8 * 10**9, 10**8, 0, 1)
    sold, fast = estimate(DEVICE, work, "fp16"), estimate(DEVICE.in_mode("fast"), work, "fp16")
    assert fast.bounds_ms["compute"] == pytest.approx(sold.bounds_ms["compute"] / 2)
    assert fast.bounds_ms["bandwidth"] == pytest.approx(sold.bounds_ms["bandwidth"] / 2)
    assert fast.bounds_ms["launch"] == sold.bounds_ms["launch"]
    assert "fast" in fast.title
    slow = estimate(DEVICE.in_mode("fast"), work, "fp32").bounds_ms["compute"]
    assert slow == estimate(DEVICE, work, "fp32").bounds_ms["compute"]


@given(COUNTS, COUNTS, COUNTS, st.integers(1, 10**5), st.sampled_from(["flops", "weight_elements", "kernels"]))
def test_more_work_never_takes_less_time(flops, weights, activations, kernels, grown):
    work = Work(1, flops, weights, activations, kernels)
    more = replace(work, **{grown: getattr(work, grown) * 2})
    assert estimate(DEVICE, more).ms >= estimate(DEVICE, work).ms


@given(COUNTS, COUNTS, COUNTS, st.integers(1, 10**5), st.integers(1, 64))
def test_a_batch_takes_no_longer_than_its_images_one_by_one(flops, weights, activations, kernels, batch):
    one = Work(1, flops, weights, activations, kernels)
    many = Work(batch, flops * batch, weights, activations * batch, kernels)
    assert estimate(DEVICE, many).ms <= estimate(DEVICE, one).ms * batch * (1 + 1e-9)


@pytest.mark.parametrize(
    ("device", "precision", "told"),
    [
        (DEVICE, "int8", "no int8 figure (has fp32, fp16)"),
        (DEVICE, "fp4", "unknown precision 'fp4'"),
        (replace(DEVICE, memory_bytes_per_s=None), "fp16", "no memory bandwidth"),
    ],
)
def test_without_the_figure_there_is_no_estimate(device, precision, told):
    with pytest.raises(ConfigError) as error:
        estimate(device, Work(1, 1, 1, 1, 1), precision)
    assert told in str(error.value)


def test_without_an_assumption_nothing_is_said_of_launches():
    found = estimate(replace(DEVICE, launch_overhead=None), Work(1, 1, 1, 1, 10**6))
    assert set(found.bounds_ms) == {"compute", "bandwidth"}
    assert found.launch_assumption is None


def test_the_error_against_a_measurement_is_told():
    error = compare(estimate(DEVICE, Work(1, 8 * 10**9, 1, 1, 1)), 4.0)
    assert error.relative == pytest.approx(-0.5)
    assert "50% below" in str(error)
    with pytest.raises(ConfigError, match="positive"):
        compare(estimate(DEVICE, Work(1, 1, 1, 1, 1)), 0)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"name": "Two words"}, "small letters"),
        ({"kind": "car"}, "kind must be"),
        ({"memory_bytes_per_s": -1.0, "operations_per_s": {"fp4": 1.0}}, "fp4.*must be positive"),
        ({"power_modes": (PowerMode("a"), PowerMode("a"))}, "two power modes"),
        ({"compute_capability": "8"}, "8.7"),
    ],
)
def test_a_device_is_checked_when_it_is_made(change, told):
    with pytest.raises(ConfigError, match=told):
        replace(DEVICE, **change)
