"""Scores of neurons, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mimi_edge.choices import EARLIER_SCORE_NAMES, SCORE_NAMES
from mimi_edge.scores import SCORES, Matrices, Need, ScoredAdapter, Scores, score_named

WEIGHTS = ([[1, -2], [3, 4], [-5, 0]], [[1, 1, -1], [0, 2, 0]])
GRADIENT = ([[2, 1], [0, -1], [1, 7]], [[0, -3, 1], [9, 0.5, 9]])
CURVATURE = ([[1, 0], [-1, 2], [2, 5]], [[4, 0, 1], [7, -3, 7]])
ACTIVATION = [0.25, 1.5]


def matrices(values: tuple[list[list[float]], list[list[float]]], neurons: int, scale: float = 1) -> Matrices:
    down, up = (scale * np.array(one, np.float32) for one in values)
    return Matrices(down[:, :neurons], up[:neurons])


def adapter(
    *, site: str = "blocks.0.mlp", seed: int = 0, neurons: int = 2, scaled: Need | None = None
) -> ScoredAdapter:
    """Of three channels; what a score may need is there, one thing of it scaled if it is named."""

    def scale(need: Need) -> float:
        return 5 if need is scaled else 1

    return ScoredAdapter(
        site,
        matrices(WEIGHTS, neurons),
        seed,
        gradient=matrices(GRADIENT, neurons, scale(Need.GRADIENT)),
        curvature=matrices(CURVATURE, neurons, scale(Need.CURVATURE)),
        activation=scale(Need.ACTIVATION) * np.array(ACTIVATION[:neurons], np.float32),
    )


def scored(name: str, of: ScoredAdapter) -> Scores:
    return score_named(name).of(of)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mimi", [12 / 5, 8 / 5]),
        ("l1", [9 + 3, 6 + 2]),
        ("l1-mean", [12 / 6, 8 / 6]),
        ("l1-down", [9, 6]),
        ("down-mean", [3, 2]),
        ("up-mean", [1, 2 / 3]),
        ("l1-activations", [0.25, 1.5]),
        ("l1-gradients", [2 + 0 + 1 + 0 + 3 + 1, 1 + 1 + 7 + 9 + 0.5 + 9]),
        ("snip", [2 + 0 + 5 + 0 + 3 + 1, 2 + 4 + 0 + 0 + 1 + 0]),
        ("taylor", [abs(0 - 3 - 1), abs(0 + 1 + 0)]),
        ("grasp", [1 - 3 - 10 + 4 + 0 - 1, 0 + 8 + 0 + 0 - 6 + 0]),
    ],
)
def test_scores_by_hand(name: str, expected: list[float]) -> None:
    scores = scored(name, adapter())
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, expected, rtol=1e-6)


def test_mimi_divides_by_the_neurons_that_are_left() -> None:
    np.testing.assert_allclose(scored("mimi", adapter(neurons=1)), [12 / 4])


@pytest.mark.parametrize("name", SCORE_NAMES)
def test_a_score_looks_at_what_it_says_that_it_needs_and_at_nothing_else(name: str) -> None:
    plain = scored(name, adapter())
    changed = {need for need in Need if not np.array_equal(scored(name, adapter(scaled=need)), plain)}
    assert changed == {SCORES[name].needs} - {Need.NOTHING}


def test_what_nobody_gathered_is_not_taken_for_zeros() -> None:
    with pytest.raises(AssertionError, match="gathered"):
        scored("snip", ScoredAdapter("blocks.0.mlp", matrices(WEIGHTS, 2), 0))


def test_random_scores_depend_on_seed_site_and_size_alone() -> None:
    lots = scored("random", adapter())
    assert np.array_equal(lots, scored("random", adapter(scaled=Need.GRADIENT)))
    for other in (adapter(seed=1), adapter(site="blocks.1.mlp"), adapter(neurons=1)):
        assert not np.array_equal(lots[:1], scored("random", other)[:1])


def test_the_command_line_names_all_scores() -> None:
    assert tuple(SCORES) == SCORE_NAMES
    assert not set(EARLIER_SCORE_NAMES) & set(SCORE_NAMES)


@pytest.mark.parametrize(("earlier", "expected"), [("unscaled", [12, 8]), ("down", [3, 2]), ("up", [1, 2 / 3])])
def test_names_of_the_first_release_mean_what_they_meant(earlier: str, expected: list[float]) -> None:
    np.testing.assert_allclose(scored(earlier, adapter()), expected, rtol=1e-6)
