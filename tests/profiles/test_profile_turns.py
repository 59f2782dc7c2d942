"""Who runs when: random order, warm-up that is detected, turns of several samples."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimi_edge.errors import ConfigError
from mimi_edge.events import Advance, Note
from mimi_edge.profiles.latency import WarmUp
from mimi_edge.profiles.turns import LEAST_TURNS, Turn, take_turns

MS = 1_000_000


class FakeCrew:
    """Processes whose times are made up: the first runs of each are slower."""

    def __init__(self, **times_ms):
        self.names = list(times_ms)
        self.times_ms = times_ms
        self.diary = []
        self.ran = dict.fromkeys(times_ms, 0)
        self.cold = 0
        self.fails_at = {}

    def ask(self, name, stage, request):
        assert request["do"] == "run"
        self.diary.append((name, request["times"]))
        if self.ran[name] >= self.fails_at.get(name, float("inf")):
            self.names.remove(name)
            return None
        taken = []
        for _ in range(request["times"]):
            slow = 5 if self.ran[name] < self.cold else 1
            taken.append(int(self.times_ms[name] * MS * slow) + self.ran[name])
            self.ran[name] += 1
        return {"ns": taken}


def alone(*names):
    """One process for each artefact."""
    return {name: (name,) for name in names}


def test_slow_ones_take_single_turns_in_a_random_order():
    crew = FakeCrew(a=60, b=70, c=80)
    taken = take_turns(crew, alone(*crew.names), "latency", rounds=30, warm_up=WarmUp(most_rounds=0))
    assert taken.turn == Turn(1, opener=False)
    rounds = [tuple(name for name, _ in crew.diary[start : start + 3]) for start in range(0, 90, 3)]
    assert all(sorted(one) == ["a", "b", "c"] for one in rounds)
    assert len(set(rounds)) > 2
    assert all(len(samples.latency_ns) == 30 for samples in taken.samples.values())


def test_the_first_sample_of_a_longer_turn_is_kept_apart():
    crew = FakeCrew(a=1.0, b=1.1)
    taken = take_turns(crew, alone(*crew.names), "latency", rounds=100)
    assert taken.turn == Turn(5, opener=True)
    for samples in taken.samples.values():
        assert (len(samples.latency_ns), len(samples.turn_starts_ns)) == (100, 20)
        all_ns = sorted(samples.warm_up_ns + samples.turn_starts_ns + samples.latency_ns)
        assert len(set(all_ns)) == len(all_ns)
        assert all(later - earlier == 1 for earlier, later in pairwise(all_ns))


@given(
    st.one_of(st.none(), st.floats(1, 1e9)),
    st.integers(1, 5000),
)
def test_turns_are_short_enough_to_spread_and_long_enough_to_settle(fastest_ns, rounds):
    turn = Turn.of(fastest_ns, rounds)
    assert turn.samples == 1 or rounds // turn.samples >= LEAST_TURNS
    assert turn.samples >= 1
    assert turn.opener or turn.samples == 1
    assert turn.opener == (fastest_ns is not None and fastest_ns < 50 * MS)


@given(st.integers(1, 90))
def test_rounds_are_samples_whatever_the_turns(rounds):
    crew = FakeCrew(a=0.5)
    taken = take_turns(crew, alone("a"), "latency", rounds=rounds)
    assert len(taken.samples["a"].latency_ns) == rounds


def test_warm_up_lasts_until_times_are_steady():
    crew = FakeCrew(quick=60, slow=90)
    crew.cold = 7
    taken = take_turns(crew, alone(*crew.names), "latency", rounds=2, warm_up=WarmUp(window=5, most_rounds=50))
    for name, samples in taken.samples.items():
        assert samples.settled
        assert 7 < len(samples.warm_up_ns) < 50
        assert max(samples.latency_ns) < 2 * crew.times_ms[name] * MS


def test_what_never_settles_is_told_and_measured_all_the_same():
    crew = FakeCrew(a=60)
    crew.cold, heard = 10**6, []
    crew.times_ms = {"a": 60}
    original = crew.ask
    random = np.random.default_rng(0)

    def unsteady(name, stage, request):
        return {"ns": [int(value) for value in original(name, stage, request)["ns"] * random.lognormal(0, 2, 1)]}

    crew.ask = unsteady
    rule = WarmUp(window=1, tolerance=1e-6, most_rounds=4)
    taken = take_turns(crew, alone("a"), "latency", rounds=2, warm_up=rule, listener=heard.append)
    assert not taken.samples["a"].settled
    assert any(isinstance(event, Note) and "steady" in event.text for event in heard)
    assert Advance("latency", 2, 2) in heard


@pytest.mark.parametrize("after", [0, 3, 12])
def test_one_that_fails_is_left_out_and_the_others_go_on(after):
    crew = FakeCrew(a=60, b=60)
    crew.fails_at = {"a": after}
    taken = take_turns(crew, alone("a", "b"), "latency", rounds=20, warm_up=WarmUp(window=2, most_rounds=4))
    assert list(taken.samples) == ["b"]
    assert len(taken.samples["b"].latency_ns) == 20


def test_less_than_one_round_is_refused():
    with pytest.raises(ConfigError, match="got 0"):
        take_turns(FakeCrew(a=1), alone("a"), "latency", rounds=0)


def test_samples_are_in_equal_parts_of_the_processes_and_each_has_its_own():
    crew = FakeCrew(a=60, b=61, c=80, d=81)
    teams = {"one": ("a", "b"), "other": ("c", "d")}
    taken = take_turns(crew, teams, "latency", rounds=31, warm_up=WarmUp(window=2, most_rounds=4))
    for name, (first, second) in {"one": (60, 61), "other": (80, 81)}.items():
        samples = taken.samples[name]
        assert [len(each) for each in samples.by_process] == [16, 16]
        assert [min(each) // MS for each in samples.by_process] == [first, second]
        assert [min(each) // MS for each in samples.warm_up_by_process] == [first, second]


def test_all_processes_have_a_turn_each_round_in_a_random_order():
    crew = FakeCrew(a=60, b=60, c=60, d=60)
    take_turns(crew, {"one": ("a", "b"), "other": ("c", "d")}, "latency", rounds=40, warm_up=WarmUp(most_rounds=0))
    rounds = [tuple(name for name, _ in crew.diary[start : start + 4]) for start in range(0, len(crew.diary), 4)]
    assert all(sorted(one) == ["a", "b", "c", "d"] for one in rounds)
    assert len(set(rounds)) > 5


def test_an_artefact_of_which_one_process_fails_is_left_out():
    crew = FakeCrew(a=60, b=60, c=60)
    crew.fails_at = {"b": 12}
    taken = take_turns(crew, {"one": ("a", "b"), "other": ("c",)}, "latency", rounds=20)
    assert list(taken.samples) == ["other"]


@pytest.mark.parametrize(("ms", "samples"), [(1.0, 300), (60.0, 102)])
def test_without_a_number_fast_ones_get_enough_for_each_process_and_slow_ones_in_all(ms, samples):
    crew = FakeCrew(a=ms, b=ms, c=ms)
    taken = take_turns(crew, {"one": ("a", "b", "c")}, "latency")
    assert len(taken.samples["one"].latency_ns) == samples
