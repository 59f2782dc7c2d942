"""Rounds: how many, and how far down each goes."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimi_edge.budgets import Budget, Cost
from mimi_edge.errors import ConfigError
from mimi_edge.schedule import Schedule, prunings, schedule

LEAST, ONE = Cost(1_000, 50_000), Cost(1_100, 50_010)


def planned(budget: Budget, start: Cost, rho: float = 0.5) -> Schedule:
    return schedule(budget, start, LEAST, ONE, rho)


@pytest.mark.parametrize(
    ("start", "target", "rho", "expected"),
    [
        (64, 1, 0.5, 6),  # M/N from 1 to 64, halving
        (64, 1.001, 0.5, 6),
        (64, 0.999, 0.5, 7),
        (2, 1, 0.5, 1),
        (1.0001, 1, 0.5, 1),
        (1, 1, 0.5, 0),  # is there already
        (1, 2, 0.5, 0),  # smaller than it need be
        (0, 1, 0.5, 0),  # no adapters at all
        (1000, 1, 0.9, 3),  # log(1000) / log(10) is a hair off in floating point
        (100, 1, 0.25, math.ceil(math.log(100) / -math.log(0.75))),
    ],
)
def test_the_number_of_prunings(start: float, target: float, rho: float, expected: int) -> None:
    assert prunings(start, target, rho) == expected


@given(st.floats(1, 1e9), st.floats(1, 1e9), st.floats(0.01, 0.99))
def test_so_many_prunings_are_enough_and_needed(start: float, target: float, rho: float) -> None:
    rounds = prunings(start, target, rho)
    assert start * (1 - rho) ** rounds <= target * (1 + 1e-6)
    if rounds:
        assert start * (1 - rho) ** (rounds - 1) > target * (1 - 1e-6)


def test_what_fits_already_is_trained_once() -> None:
    assert planned(Budget(size_bytes=2_000), Cost(2_000, 60_000)) == Schedule(())
    assert planned(Budget(size_bytes=2_000), Cost(2_000, 60_000)).trainings == 1


def test_limits_halve_what_adapters_cost_and_end_at_the_budget() -> None:
    limits = planned(Budget(size_bytes=2_000), Cost(9_000, 60_000)).limits
    assert limits == (Budget(size_bytes=5_000), Budget(size_bytes=3_000), Budget(size_bytes=2_000))


def test_the_last_limit_is_the_budget_even_where_halving_goes_below() -> None:
    assert planned(Budget(size_bytes=2_500), Cost(9_000, 60_000)).limits[-1] == Budget(size_bytes=2_500)


def test_a_budget_for_the_head_alone_ends_after_finitely_many_rounds() -> None:
    limits = planned(Budget(size_bytes=1_000), Cost(9_000, 60_000)).limits
    assert len(limits) == 7  # 8,000 down to the 100 of a single neuron
    assert limits[-1] == Budget(size_bytes=1_000)


def test_one_neuron_too_many_takes_one_pruning() -> None:
    assert planned(Budget(size_bytes=1_050), ONE).limits == (Budget(size_bytes=1_050),)


def test_a_share_so_small_that_rounds_would_not_end_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"would take [0-9,]+ prunings"):
        planned(Budget(size_bytes=2_500), Cost(9_000, 60_000), 1e-9)


@given(st.integers(1_000, 10**6), st.integers(50_000, 10**7), st.integers(1, 10**6), st.floats(0.05, 0.95), st.data())
def test_any_schedule(size: int, flops: int, extra: int, rho: float, data: st.DataObject) -> None:
    axes = data.draw(st.sampled_from([(size, None), (None, flops), (size, flops)]))
    budget, start = Budget(*axes), Cost(1_100 + extra, 50_010 + 10 * extra)
    made = planned(budget, start, rho)
    assert made.trainings == len(made.limits) + 1
    assert (not made.limits) == start.within(budget)
    if made.limits:
        assert made.limits[-1] == budget
    for before, after in zip(made.limits, made.limits[1:], strict=False):
        assert_no_larger(after, before)
    for done, limit in enumerate(made.limits[:-1], start=1):
        share = (1 - rho) ** done
        if limit.size_bytes is not None:
            assert limit.size_bytes >= LEAST.size_bytes + math.floor((start.size_bytes - LEAST.size_bytes) * share)
        if limit.flops is not None:
            assert limit.flops >= LEAST.flops + math.floor((start.flops - LEAST.flops) * share)


def assert_no_larger(after: Budget, before: Budget) -> None:
    for later, earlier in ((after.size_bytes, before.size_bytes), (after.flops, before.flops)):
        assert (later is None) == (earlier is None)
        assert later is None or later <= earlier


@pytest.mark.parametrize("rho", [0.0, 1.0, -0.5, 2.0, float("nan")])
def test_a_senseless_share_is_refused(rho: float) -> None:
    with pytest.raises(ConfigError, match="--rho"):
        planned(Budget(size_bytes=2_000), Cost(9_000, 60_000), rho)


@given(st.integers(1_000, 10**6), st.integers(1, 10**6), st.floats(0.05, 0.95), st.integers(1, 20))
def test_one_shot_prunes_once_in_as_many_epochs(size: int, extra: int, rho: float, epochs: int) -> None:
    rounds = planned(Budget(size_bytes=size), Cost(1_100 + extra, 60_000), rho)
    at_once = rounds.in_one_shot
    assert at_once.limits == rounds.limits[-1:]
    assert sum(at_once.epochs(epochs)) == sum(rounds.epochs(epochs)) == epochs * rounds.trainings
    assert at_once.epochs(epochs)[0] == epochs
    assert len(at_once.epochs(epochs)) == at_once.trainings


@given(st.integers(1_000, 10**6), st.integers(1, 10**6), st.integers(1, 20), st.integers(1, 20))
def test_trainings_before_a_pruning_may_have_epochs_of_their_own(
    size: int, extra: int, last: int, earlier: int
) -> None:
    rounds = planned(Budget(size_bytes=size), Cost(1_100 + extra, 60_000), 0.5)
    epochs = rounds.epochs(last, earlier)
    assert epochs == (*[earlier] * len(rounds.limits), last)
    assert sum(rounds.in_one_shot.epochs(last, earlier)) == sum(epochs)


def test_passes_that_were_asked_for_are_those_of_all_trainings_together() -> None:
    three = Schedule((Budget(size_bytes=2), Budget(size_bytes=1)), last_passes=4)
    assert three.epochs(2, passes=9) == (2, 2, 5)
    assert three.epochs(2, 1, passes=3) == (1, 1, 1)
    assert Schedule(()).epochs(2, passes=9) == (9,)
    for passes, before, other in ((4, None, "fewer --epochs"), (2, 1, "a larger budget")):
        with pytest.raises(ConfigError, match=f"at least {passes + 1}, or {other}"):
            three.epochs(2, before, passes=passes)
