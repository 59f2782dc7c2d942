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


def test_slow_ones_take_single_turns_in_a_random_order():
    crew = FakeCrew(a=60, b=70, c=80)
    taken = take_turns(crew, crew.names, "latency", rounds=30, warm_up=WarmUp(most_rounds=0))
    assert taken.turn == Turn(1, opener=False)
    rounds = [tuple(name for name, _ in crew.diary[start : start + 3]) for start in range(0, 90, 3)]
    assert all(sorted(one) == ["a", "b", "c"] for one in rounds)
    assert len(set(rounds)) > 2
    assert all(len(samples.latency_ns) == 30 for samples in taken.samples.values())


def test_the_first_sample_of_a_longer_turn_is_kept_apart():
    crew = FakeCrew(a=1.0, b=1.1)
    taken = take_turns(crew, crew.names, "latency", rounds=100)
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
    taken = take_turns(crew, ["a"], "latency", rounds=rounds)
    assert len(taken.samples["a"].latency_ns) == rounds


def test_warm_up_lasts_until_times_are_steady():
    crew = FakeCrew(quick=60, slow=90)
    crew.cold = 7
    taken = take_turns(crew, crew.names, "latency", rounds=2, warm_up=WarmUp(window=5, most_rounds=50))
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
    taken = take_turns(crew, ["a"], "latency", rounds=2, warm_up=rule, listener=heard.append)
    assert not taken.samples["a"].settled
    assert any(isinstance(event, Note) and "steady" in event.text for event in heard)
    assert Advance("latency", 2, 2) in heard


@pytest.mark.parametrize("after", [0, 3, 12])
def test_one_that_fails_is_left_out_and_the_others_go_on(after):
    crew = FakeCrew(a=60, b=60)
    crew.fails_at = {"a": after}
    taken = take_turns(crew, ["a", "b"], "latency", rounds=20, warm_up=WarmUp(window=2, most_rounds=4))
    assert list(taken.samples) == ["b"]
    assert len(taken.samples["b"].latency_ns) == 20


def test_less_than_one_round_is_refused():
    with pytest.raises(ConfigError, match="got 0"):
        take_turns(FakeCrew(a=1), ["a"], "latency", rounds=0)
