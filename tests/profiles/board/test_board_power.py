"""Joules out of watts: what a person would work out by hand, and laws that hold for every series."""

import time

import numpy as np
import pytest
from board_samples import ListedMeter
from hypothesis import given
from hypothesis import strategies as st

from mimi_edge.errors import ConfigError, MimiEdgeError
from mimi_edge.profiles.board.power import (
    COUNTER,
    MOST_FAILURES,
    TRAPEZOID,
    PowerReading,
    PowerSamples,
    idle_watts,
    sample,
)

SECOND = 10**9


def samples(*points, counters=None):
    readings = [
        PowerReading(watts, {"rail": watts}, int(at * SECOND), None if counters is None else counters[index])
        for index, (at, watts) in enumerate(points)
    ]
    return PowerSamples(tuple(readings))


def test_a_ramp_is_a_trapezoid():
    found = samples((0, 0.0), (2, 4.0)).energy(0, 2 * SECOND)
    assert (found.joules, found.seconds, found.mean_watts) == (pytest.approx(4.0), 2.0, pytest.approx(2.0))
    assert (found.method, found.samples) == (TRAPEZOID, 2)


def test_instants_between_readings_cut_a_trapezoid():
    found = samples((0, 0.0), (2, 4.0)).energy(SECOND // 2, 3 * SECOND // 2)
    assert found.joules == pytest.approx(2.0)
    assert found.samples == 0


def test_a_step_in_power_counts_for_its_share():
    assert samples((0, 10.0), (1, 10.0), (1.0001, 30.0), (2, 30.0)).energy(0, 2 * SECOND).joules == pytest.approx(
        40, rel=1e-3
    )


def test_a_counter_is_believed_before_sampled_watts():
    found = samples((0, 500.0), (1, 500.0), (2, 500.0), counters=[100.0, 107.0, 121.0])
    assert found.energy(0, 2 * SECOND).joules == pytest.approx(21)
    assert found.energy(SECOND // 2, SECOND).joules == pytest.approx(3.5)
    assert found.method == COUNTER


def test_one_reading_without_a_counter_means_watts():
    assert samples((0, 5.0), (1, 5.0), counters=[100.0, None]).energy(0, SECOND).joules == pytest.approx(5)


@given(
    st.lists(st.tuples(st.integers(1, 10**6), st.floats(0, 1000)), min_size=2, max_size=20),
    st.lists(st.floats(0, 1), min_size=3, max_size=3, unique=True),
    st.booleans(),
)
def test_parts_of_a_time_add_up_to_the_whole(steps, cuts, with_counter):
    times = np.cumsum([step for step, _ in steps]) * 1000
    counters = np.cumsum([watts for _, watts in steps])
    found = PowerSamples(
        tuple(
            PowerReading(watts, {}, int(at), float(counter) if with_counter else None)
            for at, counter, (_, watts) in zip(times, counters, steps, strict=True)
        )
    )
    first, last = found.readings[0].at_ns, found.readings[-1].at_ns
    start, middle, end = (int(first + cut * (last - first)) for cut in sorted(cuts))
    if start < middle < end:
        whole = found.energy(start, end).joules
        parts = found.energy(start, middle).joules + found.energy(middle, end).joules
        assert parts == pytest.approx(whole, rel=1e-6, abs=1e-9)
        assert whole >= -1e-9


@given(st.floats(0.1, 1000), st.integers(2, 30), st.integers(1, 10**9))
def test_constant_power_is_power_times_time(watts, count, step_ns):
    found = PowerSamples(tuple(PowerReading(watts, {}, index * step_ns) for index in range(count)))
    energy = found.energy(0, (count - 1) * step_ns)
    assert energy.joules == pytest.approx(watts * energy.seconds)
    assert energy.mean_watts == pytest.approx(watts)


@pytest.mark.parametrize(("start", "end"), [(-1, 5), (0, 3 * SECOND), (5, 5), (9, 3)])
def test_energy_outside_the_readings_is_not_made_up(start, end):
    with pytest.raises(ConfigError, match="Energy is known from"):
        samples((0, 1.0), (2, 1.0)).energy(start, end)


@pytest.mark.parametrize("points", [[(0, 1.0)], [], [(1, 1.0), (1, 1.0)], [(2, 1.0), (1, 1.0)]])
def test_samples_are_two_or_more_in_order_of_time(points):
    with pytest.raises(ConfigError, match="rising times"):
        samples(*points)


def test_sampling_covers_the_block_from_its_first_instant_to_its_last():
    class Steady:
        description = "steady"

        def read(self):
            return PowerReading(7.0, {"rail": 7.0}, time.perf_counter_ns())

    with sample(Steady(), interval_s=0.001) as sampler:
        start = time.perf_counter_ns()
        time.sleep(0.02)
        end = time.perf_counter_ns()
    found = sampler.samples()
    assert found.energy(start, end).mean_watts == pytest.approx(7)
    assert len(found.readings) > 2
    assert idle_watts(Steady(), seconds=0.01, interval_s=0.001) == pytest.approx(7)


def test_readings_that_do_not_come_are_counted_and_passed_over():
    meter = ListedMeter([1.0, OSError("busy"), 3.0, 5.0])
    with sample(meter, interval_s=0.001) as sampler:
        while meter.asked < 6:
            time.sleep(0.001)
    found = sampler.samples()
    assert found.failures == 1
    assert found.readings[0].watts == 1.0
    assert found.readings[1].watts == 3.0


def test_a_meter_that_never_answers_is_given_up_and_told():
    meter = ListedMeter([OSError("gone")])
    with sample(meter, interval_s=0.0001) as sampler:
        while meter.asked < MOST_FAILURES:
            time.sleep(0.001)
        time.sleep(0.02)
        assert meter.asked == MOST_FAILURES
    with pytest.raises(MimiEdgeError, match="a list answered 0 times"):
        sampler.samples()


def test_an_error_in_the_block_ends_the_sampling():
    meter = ListedMeter([1.0])

    def fails():
        with sample(meter, interval_s=0.001):
            raise KeyError("work")

    with pytest.raises(KeyError):
        fails()
    asked = meter.asked
    time.sleep(0.01)
    assert meter.asked == asked


def test_an_interval_is_positive():
    with pytest.raises(ConfigError, match="above 0 s"), sample(ListedMeter([1.0]), interval_s=0):
        pass
