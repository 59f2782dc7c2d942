import gc
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimi_edge.errors import ConfigError
from mimi_edge.events import Advance
from mimi_edge.profiles.latency import WarmUp, measure, summarise

NO_WARM_UP = WarmUp(most_rounds=0)


class Machine:
    """A clock that only moves when something runs, and a diary of what ran."""

    def __init__(self):
        self.now_ns = 0
        self.diary = []

    def clock(self):
        return self.now_ns

    def runnable(self, name, latencies_ns):
        latencies = iter(latencies_ns)

        def run():
            self.diary.append(name)
            self.now_ns += int(next(latencies))

        return run


def forever(value):
    while True:
        yield value


def test_every_sample_is_kept_in_the_order_of_the_rounds():
    machine = Machine()
    runnables = {"a": machine.runnable("a", range(1, 100)), "b": machine.runnable("b", range(1001, 1100))}
    measured = measure(runnables, rounds=20, warm_up=NO_WARM_UP, clock=machine.clock)
    assert measured["a"].latency_ns == tuple(range(1, 21))
    assert measured["b"].latency_ns == tuple(range(1001, 1021))
    assert measured["a"].warm_up_ns == ()


def test_a_round_has_each_once_in_random_order():
    machine = Machine()
    names = "abc"
    rounds = 600
    runnables = {name: machine.runnable(name, forever(1)) for name in names}
    measure(runnables, rounds=rounds, warm_up=NO_WARM_UP, clock=machine.clock)
    orders = ["".join(machine.diary[start : start + 3]) for start in range(0, 3 * rounds, 3)]
    counts = Counter(orders)
    assert all(sorted(order) == list(names) for order in orders)
    # All six orders, each near 100 times: five standard deviations are 46.
    assert len(counts) == 6
    assert all(abs(count - rounds / 6) < 46 for count in counts.values())
    # Which order comes next does not depend on the last one.
    assert len(set(pairwise(orders))) == 36


def test_the_seed_says_the_order():
    def diary(seed):
        machine = Machine()
        runnables = {name: machine.runnable(name, forever(1)) for name in "abcd"}
        measure(runnables, rounds=30, seed=seed, clock=machine.clock)
        return machine.diary

    assert diary(1) == diary(1)
    assert diary(1) != diary(2)


def test_warm_up_lasts_until_the_slow_start_is_over():
    machine = Machine()
    cold = [1000 - 30 * step for step in range(30)]
    runnables = {
        "cold": machine.runnable("cold", [*cold, *[100] * 500]),
        "warm": machine.runnable("warm", forever(100)),
    }
    measured = measure(runnables, rounds=40, clock=machine.clock)
    assert set(measured["cold"].latency_ns) == {100}
    assert measured["cold"].settled
    assert len(measured["cold"].warm_up_ns) == len(measured["warm"].warm_up_ns) > len(cold)


def test_what_never_becomes_steady_is_measured_and_said():
    machine = Machine()
    runnables = {"slower and slower": machine.runnable("s", (2**step for step in range(100)))}
    measured = measure(runnables, rounds=5, warm_up=WarmUp(most_rounds=12), clock=machine.clock)
    assert len(measured["slower and slower"].warm_up_ns) == 12
    assert not measured["slower and slower"].settled


def test_the_garbage_collector_rests_during_samples_and_comes_back():
    seen = []
    assert gc.isenabled()
    measure({"a": lambda: seen.append(gc.isenabled())}, rounds=3, warm_up=NO_WARM_UP)
    assert seen == [False] * 3
    assert gc.isenabled()


def test_the_garbage_collector_comes_back_after_a_failure():
    def fails():
        raise RuntimeError

    with pytest.raises(RuntimeError):
        measure({"a": fails}, rounds=3)
    assert gc.isenabled()


def test_progress_is_told_from_nothing_to_all_but_not_for_every_sample():
    heard = []
    measure({"a": lambda: None}, rounds=1000, listener=heard.append, stage="batch 1")
    assert all(isinstance(event, Advance) and event.stage == "batch 1" for event in heard)
    assert (heard[0].done, heard[-1].done, heard[-1].total) == (0, 1000, 1000)
    assert len(heard) <= 21


@pytest.mark.parametrize(("runnables", "rounds"), [({}, 3), ({"a": lambda: None}, 0)])
def test_nothing_to_measure_is_refused(runnables, rounds):
    with pytest.raises(ConfigError, match="Nothing to measure"):
        measure(runnables, rounds=rounds)


@pytest.mark.parametrize("fault", [{"window": 0}, {"tolerance": 0.0}, {"most_rounds": -1}])
def test_a_warm_up_without_a_meaning_is_refused(fault):
    with pytest.raises(ConfigError):
        WarmUp(**fault)


@given(st.lists(st.integers(1, 10**12), min_size=1, max_size=200))
def test_statistics_are_numpy_s(latency_ns):
    summary = summarise(latency_ns)
    values_ms = np.array(latency_ns) / 1e6
    assert [summary.p50_ms, summary.p90_ms, summary.p99_ms] == pytest.approx(np.percentile(values_ms, [50, 90, 99]))
    assert [summary.mean_ms, summary.min_ms, summary.max_ms] == pytest.approx(
        [values_ms.mean(), values_ms.min(), values_ms.max()]
    )
    assert summary.count == len(latency_ns)


def test_jitter_is_what_changes_from_one_sample_to_the_next():
    assert summarise([1_000_000, 3_000_000, 1_000_000, 3_000_000]).jitter_ms == pytest.approx(2)
    drifting = [1_000_000 + 1000 * index for index in range(1000)]
    assert summarise(drifting).jitter_ms == pytest.approx(0.001)
    assert summarise([5]).jitter_ms == 0
