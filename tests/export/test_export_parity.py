from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimi_edge.errors import ExportMismatchError
from mimi_edge.export.parity import check_accuracy, check_outputs
from mimi_edge.images.preprocessing import Preprocessing
from mimi_edge.tasks.task import SplitAccuracy

PREPROCESSING = Preprocessing(1, 1, "nearest", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


class Replay:
    """Gives rows of logits in order, whatever the images."""

    def __init__(self, logits):
        self.logits = np.asarray(logits, np.float32)
        self.at = 0

    def run(self, images):
        self.at += len(images)
        return self.logits[self.at - len(images) : self.at]


def _compare(got, reference, tolerance=1e-3):
    reference = np.asarray(reference, np.float32)
    return check_outputs(Replay(got), reference, np.zeros((len(reference), 3, 1, 1), np.float32), tolerance)


def test_figures_of_a_good_graph():
    check = _compare([[1, 10.005], [3, 1]], [[1, 10], [3, 1]])
    assert (check.images, check.same_top1, check.near_ties) == (2, 2, 0)
    assert check.largest_difference == pytest.approx(0.005, abs=1e-5)
    assert check.relative_difference == pytest.approx(0.0005, abs=1e-6)


@pytest.mark.parametrize("got", [[[1, 10.02]], [[1, float("nan")]], [[float("inf"), 10]], [[1, 10, 0]]])
def test_difference_beyond_the_tolerance_is_refused(got):
    with pytest.raises(ExportMismatchError):
        _compare(got, [[1, 10]])


def test_near_tie_is_counted_not_refused():
    check = _compare([[10.001, 10.002]], [[10.002, 10.001]])
    assert (check.same_top1, check.near_ties) == (0, 1)


def test_other_top1_beyond_a_near_tie_is_refused():
    with pytest.raises(ExportMismatchError, match="top-1 on 0"):
        _compare([[9.992, 9.995]], [[10, 9.987]])


@given(count=st.integers(1, 100), seed=st.integers(0, 9))
def test_the_reference_itself_always_passes(count, seed):
    logits = np.random.default_rng(seed).standard_normal((count, 4), np.float32)
    assert _compare(logits, logits).same_top1 == count


def _accuracy(logits, labels, right, images=None):
    count = len(labels)
    expected = SplitAccuracy(round(right / count, 6), images or count)
    pixels = np.zeros((count, 1, 1, 3), np.uint8)
    return check_accuracy(Replay(logits), pixels, np.array(labels), expected, PREPROCESSING)


def test_same_number_right_passes():
    check = _accuracy([[1, 0], [0, 1], [1, 0]], [0, 1, 1], right=2)
    assert (check.right, check.expected_right, check.near_ties) == (2, 2, 0)
    assert check.accuracy == 2 / 3


@pytest.mark.parametrize("right", [1, 3])
def test_any_other_number_is_refused(right):
    with pytest.raises(ExportMismatchError, match="2 of 3"):
        _accuracy([[1, 0], [0, 1], [1, 0]], [0, 1, 1], right=right)


def test_near_ties_may_fall_either_way():
    assert _accuracy([[1, 0], [0.5, 0.4999]], [0, 1], right=2).near_ties == 1


def test_another_split_and_broken_logits_are_refused():
    with pytest.raises(ExportMismatchError, match="7 images"):
        _accuracy([[1, 0]], [0], right=1, images=7)
    with pytest.raises(ExportMismatchError):
        _accuracy([[1, 0], [float("nan"), float("nan")]], [0, 0], right=2)


def test_batches_cover_every_image():
    logits = np.tile([[1.0, 0.0]], (101, 1))
    assert _accuracy(logits, [0] * 101, right=101).right == 101
