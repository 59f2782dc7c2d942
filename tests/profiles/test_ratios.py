"""What a ratio is worth: how often it sees what is not there, and how often it misses what is."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimi_edge.errors import ConfigError
from mimi_edge.profiles.latency import ALIKE, SEEN, UNSURE, Ratio, Samples, Share
from mimi_edge.profiles.ratios import USUAL_SPREAD, medians, ratio, ratios, student_quantile

TRIALS = 200
TURNS, SAMPLES = 20, 5
QUICK = 40


def made_up(random, *, level=1.0, processes=3, spread=0.0, noise=0.0, tied=0.0, shared=None):
    """Samples of one artefact.

    Args:
        random: of all of it.
        level: true milliseconds.
        processes: that take them.
        spread: standard deviation between processes.
        noise: of turns, each tied to the one before by `tied`.
        tied: correlation of a process's turn with its next one; processes have nothing to do with one another.
        shared: what every process of either side suffers at each turn.
    """
    turns = np.zeros((processes, TURNS))
    for turn in range(TURNS):
        fresh = random.standard_normal(processes)
        turns[:, turn] = fresh if not turn else tied * turns[:, turn - 1] + math.sqrt(1 - tied**2) * fresh
    logs = spread * random.standard_normal((processes, 1, 1)) + noise * turns[..., None]
    logs = logs + 0.005 * random.standard_normal((processes, TURNS, SAMPLES))
    logs = logs + (0 if shared is None else shared[None, :, None])
    return samples_of(level * 1e6 * np.exp(logs))


def samples_of(taken_ns):
    """Of [processes, turns, samples]."""
    processes, turns, _ = taken_ns.shape
    share = Share(taken_ns[0].size, 0, turns, settled=True)
    values = tuple(int(value) for value in taken_ns.ravel())
    return Samples(values, (), True, (1,) * (processes * turns), (share,) * processes)


def verdicts(level=1.0, **machine):
    """How often each verdict is given about two artefacts of which one takes `level` times as long."""
    counts = dict.fromkeys((SEEN, ALIKE, UNSURE), 0)
    drift = machine.pop("drift", 0.0)
    for seed in range(TRIALS):
        random = np.random.default_rng(seed)
        shared = drift * np.cumsum(random.standard_normal(TURNS))
        sides = (made_up(random, level=its, shared=shared, **machine) for its in (level, 1.0))
        counts[ratio(*sides, resamples=QUICK, seed=seed).verdict] += 1
    return {verdict: count / TRIALS for verdict, count in counts.items()}


@pytest.mark.parametrize(
    "machine",
    [
        {"noise": 0.05},
        {"spread": 0.01, "noise": 0.01},
        {"spread": 0.05, "noise": 0.1, "drift": 0.1},
        {"spread": 0.01, "noise": 0.1, "tied": 0.6, "drift": 0.05},
        {"spread": 0.02, "noise": 0.2, "tied": 0.9},
        {"processes": 2, "spread": 0.02, "noise": 0.1, "tied": 0.6},
        {"processes": 1, "noise": 0.05},
        {"processes": 1, "spread": 0.01, "noise": 0.1, "tied": 0.6},
    ],
    ids=str,
)
def test_a_graph_against_its_copy_is_seldom_called_different(machine):
    """1 in 20 is what such an interval promises; 7 in 100 is what chance allows these trials."""
    assert verdicts(**machine)[SEEN] <= 0.07


def test_a_true_difference_of_three_percent_is_seen_on_a_quiet_machine():
    assert verdicts(1.03, spread=0.004, noise=0.01, tied=0.2)[SEEN] >= 0.95
    assert verdicts(1.03, processes=5, spread=0.01, noise=0.01, tied=0.2)[SEEN] >= 0.9


def test_a_quiet_machine_says_that_copies_are_alike_and_a_busy_one_that_it_cannot_tell():
    assert verdicts(spread=0.004, noise=0.01)[ALIKE] >= 0.9
    assert verdicts(spread=0.05, noise=0.2, tied=0.6)[UNSURE] >= 0.9


def test_a_large_difference_is_seen_on_a_busy_machine_too():
    assert verdicts(2.0, spread=0.03, noise=0.1, tied=0.6)[SEEN] >= 0.95


def test_what_slows_all_alike_is_no_part_of_the_interval():
    random = np.random.default_rng(0)
    shared = np.cumsum(random.standard_normal(TURNS)) * 0.3
    drifting, steady = (
        ratio(*(made_up(np.random.default_rng(seed), noise=0.01, shared=it) for seed in (1, 2)))
        for it in (shared, None)
    )
    assert drifting.high / drifting.low < 1.1
    assert math.log(drifting.high / drifting.low) < 5 * math.log(steady.high / steady.low)


def test_what_was_not_taken_in_turns_keeps_what_slowed_it():
    random = np.random.default_rng(0)
    shared = np.cumsum(random.standard_normal(TURNS)) * 0.1
    sides = [made_up(np.random.default_rng(seed), noise=0.01, shared=shared) for seed in (1, 2)]
    (apart,), (together,) = (
        ratios(*sides, medians, together=it, random=np.random.default_rng(0)) for it in (False, True)
    )
    assert math.log(apart.high / apart.low) > 3 * math.log(together.high / together.low)


def test_turns_that_are_tied_make_the_interval_of_single_processes_wider():
    # The same values in another order: only what a turn shares with the next one is different.
    random = np.random.default_rng(4)
    turns = np.sort(random.lognormal(0, 0.1, TURNS)) * 1e6
    flat = random.lognormal(0, 0.01, TURNS) * 1e6
    mixed = random.permutation(turns)
    tied, free = (
        ratio(*(samples_of(it[None, :, None].repeat(SAMPLES, 2)) for it in (side, flat))) for side in (turns, mixed)
    )
    assert tied.correlation > 0.8
    assert free.correlation < 0.5
    assert math.log(tied.high / tied.low) > 2 * math.log(free.high / free.low)


def test_one_process_a_side_is_never_surer_than_processes_usually_are_alike():
    flat = samples_of(np.full((1, TURNS, SAMPLES), 1e6))
    found = ratio(flat, flat)
    assert math.log(found.high) == pytest.approx(1.96 * math.sqrt(2) * USUAL_SPREAD, rel=1e-3)
    assert (found.value, found.spread) == (1, None)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 30), st.integers(0, 99))
def test_a_ratio_is_that_of_the_processes_medians_and_its_inverse_is_worth_the_same(ours, theirs, turns, seed):
    random = np.random.default_rng(seed)
    sides = [samples_of(np.rint(random.lognormal(0, 0.1, (count, turns, 2)) * 1e6)) for count in (ours, theirs)]
    found, inverse = ratio(*sides), ratio(*reversed(sides))
    means = [np.mean([math.log(np.median(one)) for one in side.by_process]) for side in sides]
    assert found.value == pytest.approx(math.exp(means[0] - means[1]))
    assert found.low <= found.value <= found.high
    assert inverse.value == pytest.approx(1 / found.value)
    assert math.isfinite(found.high)
    assert found.low > 0


def test_more_processes_make_it_narrower_and_tell_their_spread():
    widths = {}
    for count in (2, 3, 8):
        found = [
            ratio(*(made_up(np.random.default_rng((seed, side)), processes=count, spread=0.03) for side in (0, 1)))
            for seed in range(20)
        ]
        widths[count] = np.median([math.log(one.high / one.low) for one in found])
        assert np.median([one.spread for one in found]) == pytest.approx(0.03, rel=0.35)
    assert widths[2] > widths[3] > widths[8]


def test_samples_of_other_rounds_have_no_ratio_in_turns():
    long, short = (samples_of(np.full((1, turns, 2), 1e6)) for turns in (20, 19))
    with pytest.raises(ConfigError, match="same rounds"):
        ratio(long, short)
    with pytest.raises(ConfigError, match="has none"):
        ratio(long, Samples((), (), True))


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(1.01, 1.5, SEEN), (0.5, 0.99, SEEN), (0.96, 1.04, ALIKE), (0.9, 1.2, UNSURE), (1.0, 1.09, ALIKE)],
)
def test_an_interval_that_holds_one_and_much_else_tells_nothing(low, high, verdict):
    assert Ratio(1.0, low, high, 0.95).verdict == verdict


@pytest.mark.parametrize(("freedom", "quantile"), [(1, 12.7062), (2, 4.3027), (4, 2.7764), (10, 2.2281), (200, 1.9719)])
def test_quantiles_are_those_of_the_tables(freedom, quantile):
    assert student_quantile(0.975, freedom) == pytest.approx(quantile, abs=2e-4)


def test_shares_that_are_not_of_the_samples_are_refused():
    with pytest.raises(ConfigError, match="add up"):
        Samples((1, 2, 3), (), True, (), (Share(2, 0, 0, True),))
    with pytest.raises(ConfigError, match="add up"):
        Samples((1, 2), (), True, (), (Share(2, 0, 0, True), Share(0, 0, 0, True)))


def test_samples_are_told_apart_by_process():
    samples = Samples((1, 2, 3, 4), (9, 8, 7), True, (5, 6), (Share(2, 1, 1, True), Share(2, 2, 1, False)))
    assert samples.by_process == ((1, 2), (3, 4))
    assert samples.warm_up_by_process == ((9,), (8, 7))
    assert (samples.processes, samples.turn_samples) == (2, 2)
    alone = Samples((1, 2, 3), (4,), True)
    assert (alone.by_process, alone.processes, alone.turn_samples) == (((1, 2, 3),), 1, 1)
