"""Times in words."""

from __future__ import annotations

import pytest

from mimi_edge.durations import duration


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (125, "2 min 5 s"),
        (3599.6, "1 h"),
        (12_000, "3 h 20 min"),
        (86_399, "1 day"),
        (1_262_006, "14 days 15 h"),
    ],
)
def test_times_are_told_in_their_largest_units(seconds: float, words: str) -> None:
    assert duration(seconds) == words
