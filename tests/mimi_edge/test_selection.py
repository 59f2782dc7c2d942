"""Which neurons stay: orders, ties, scopes and exactness."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from method_samples import counted

from mimi_edge.scores import Scores
from mimi_edge.selection import Neuron, Scope, Stages, ranking, select

scores_by_site = st.lists(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), max_size=9), min_size=1, max_size=5).map(
    lambda sites: {f"site {9 - index}": np.array(values, np.float32) for index, values in enumerate(sites)}
)
scopes = st.sampled_from(Scope)
SHARES = (1.0, 2.5, 4.0)


def ranked_by(scores: dict[str, Scores], scope: Scope) -> list[Neuron]:
    """Where the scope is of stages, those are three, and the sites are in them in turns."""
    stages = Stages({site: index % 3 for index, site in enumerate(scores)}, SHARES)
    return ranking(scores, scope, stages)


def test_ties_go_to_the_earlier_site_and_the_lower_number() -> None:
    scores = {"z": np.array([1, 2, 1], np.float32), "a": np.array([2, 1], np.float32)}
    order = [(neuron.site, neuron.index) for neuron in ranking(scores, Scope.GLOBAL)]
    assert order == [("z", 1), ("a", 0), ("z", 0), ("z", 2), ("a", 1)]


@given(scores_by_site)
def test_globally_the_best_come_first_whatever_their_site(scores: dict[str, Scores]) -> None:
    ranked = ranking(scores, Scope.GLOBAL)
    values = [float(scores[neuron.site][neuron.index]) for neuron in ranked]
    assert values == sorted(values, reverse=True)
    order = list(scores)
    keys = [(-value, order.index(n.site), n.index) for value, n in zip(values, ranked, strict=True)]
    assert keys == sorted(keys)


@given(scores_by_site, scopes)
def test_a_ranking_holds_every_neuron_once(scores: dict[str, Scores], scope: Scope) -> None:
    ranked = ranked_by(scores, scope)
    assert len(ranked) == len(set(ranked)) == sum(len(values) for values in scores.values())


@given(scores_by_site, st.data())
def test_locally_all_sites_lose_alike_within_one_neuron(scores: dict[str, Scores], data: st.DataObject) -> None:
    ranked = ranking(scores, Scope.LOCAL)
    kept = counted(ranked[: data.draw(st.integers(0, len(ranked)))])
    sizes = {site: len(values) for site, values in scores.items() if len(values)}
    for site, size in sizes.items():
        for other, other_size in sizes.items():
            # No site keeps a larger share than another would with one more.
            assert kept.get(site, 0) * other_size <= (kept.get(other, 0) + 1) * size


@given(scores_by_site)
def test_locally_the_best_of_each_site_come_first(scores: dict[str, Scores]) -> None:
    ranked = ranking(scores, Scope.LOCAL)
    for site, values in scores.items():
        own = [float(values[neuron.index]) for neuron in ranked if neuron.site == site]
        assert own == sorted(own, reverse=True)


@given(scores_by_site, scopes, st.data())
def test_selection_is_the_longest_beginning_that_fits(
    scores: dict[str, Scores], scope: Scope, data: st.DataObject
) -> None:
    ranked = ranked_by(scores, scope)
    most = data.draw(st.integers(0, len(ranked) + 2))
    selection = select(ranked, scores, lambda neurons: sum(neurons.values()) <= most)
    kept = {Neuron(site, index) for site, indices in selection.kept.items() for index in indices}
    assert kept == set(ranked[:most])
    assert selection.next == (ranked[most] if most < len(ranked) else None)
    assert list(selection.kept) == list(scores)
    assert all(list(indices) == sorted(indices) for indices in selection.kept.values())
    assert selection.neurons == {site: counted(ranked[:most]).get(site, 0) for site in scores}


def test_a_site_may_lose_every_neuron() -> None:
    scores = {"a": np.array([0.1, 0.2], np.float32), "b": np.array([0.9, 0.8], np.float32)}
    selection = select(ranking(scores, Scope.GLOBAL), scores, lambda neurons: sum(neurons.values()) <= 2)
    assert selection.kept == {"a": (), "b": (0, 1)}
    assert selection.next == Neuron("a", 1)


def test_stages_take_turns_by_their_shares_and_compete_inside() -> None:
    scores = {
        "early a": np.array([9, 7], np.float32),
        "early b": np.array([8], np.float32),
        "late": np.array([3, 1, 2, 4, 5, 6], np.float32),
    }
    stages = Stages({"early a": 0, "early b": 0, "late": 1}, (1, 2))
    order = [(neuron.site, neuron.index) for neuron in ranking(scores, Scope.STAGES, stages)]
    late = [("late", index) for index in (5, 4, 3, 0, 2, 1)]
    early = [("early a", 0), ("early b", 0), ("early a", 1)]
    # Two late ones for each early one; what comes at the same moment comes in the order of the network.
    assert order == [late[0], early[0], *late[1:3], early[1], *late[3:5], early[2], late[5]]


@given(scores_by_site, st.data())
def test_stages_keep_their_shares_within_one_neuron(scores: dict[str, Scores], data: st.DataObject) -> None:
    ranked = ranked_by(scores, Scope.STAGES)
    stage = {site: index % 3 for index, site in enumerate(scores)}
    kept = ranked[: data.draw(st.integers(0, len(ranked)))]
    counts = [sum(stage[neuron.site] == number for neuron in kept) for number in range(3)]
    sizes = [sum(len(values) for site, values in scores.items() if stage[site] == number) for number in range(3)]
    for mine, size, share in zip(counts, sizes, SHARES, strict=True):
        for other, other_share in zip(counts, SHARES, strict=True):
            # One that has no more neurons to keep falls behind; nobody else does.
            assert mine == size or other / other_share <= (mine + 1) / share


@given(scores_by_site)
def test_a_single_stage_is_the_whole_network(scores: dict[str, Scores]) -> None:
    one = Stages(dict.fromkeys(scores, 0), (3,))
    assert ranking(scores, Scope.STAGES, one) == ranking(scores, Scope.GLOBAL)
