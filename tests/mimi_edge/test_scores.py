"""Scores of neurons, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mimi_edge.scores import GRADIENT_SCORES, SCORES, ScoredAdapter

DOWN = np.array([[1, -2], [3, 4], [-5, 0]], np.float32)
UP = np.array([[1, 1, -1], [0, 2, 0]], np.float32)
DOWN_GRADIENT = np.array([[2, 1], [0, -1], [1, 7]], np.float32)
UP_GRADIENT = np.array([[0, -3, 1], [9, 0.5, 9]], np.float32)


def adapter(*, site: str = "blocks.0.mlp", seed: int = 0, neurons: int = 2, gradients: float = 1) -> ScoredAdapter:
    return ScoredAdapter(
        site,
        DOWN[:, :neurons],
        UP[:neurons],
        gradients * DOWN_GRADIENT[:, :neurons],
        gradients * UP_GRADIENT[:neurons],
        seed,
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mimi", [12 / 5, 8 / 5]),
        ("unscaled", [12, 8]),
        ("down", [3, 2]),
        ("up", [1, 2 / 3]),
        ("snip", [2 + 0 + 5 + 0 + 3 + 1, 2 + 4 + 0 + 0 + 1 + 0]),
    ],
)
def test_scores_by_hand(name: str, expected: list[float]) -> None:
    scores = SCORES[name](adapter())
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, expected, rtol=1e-6)


def test_mimi_divides_by_the_neurons_that_are_left() -> None:
    np.testing.assert_allclose(SCORES["mimi"](adapter(neurons=1)), [12 / 4])


def test_only_snip_looks_at_gradients() -> None:
    assert {"snip"} == GRADIENT_SCORES
    changed = {
        name for name, score in SCORES.items() if not np.array_equal(score(adapter()), score(adapter(gradients=0)))
    }
    assert changed == GRADIENT_SCORES


def test_random_scores_depend_on_seed_site_and_size_alone() -> None:
    lots = SCORES["random"](adapter())
    assert np.array_equal(lots, SCORES["random"](adapter(gradients=5)))
    for other in (adapter(seed=1), adapter(site="blocks.1.mlp"), adapter(neurons=1)):
        assert not np.array_equal(lots[:1], SCORES["random"](other)[:1])


def test_all_the_names_of_the_ablation() -> None:
    assert set(SCORES) == {"mimi", "unscaled", "down", "up", "snip", "random"}
