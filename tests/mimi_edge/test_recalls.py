"""Recall by class, and the mean that does not hide small classes."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mimi_edge.recalls import ClassRecalls, class_recalls, recalls_from_document


def test_a_small_class_that_is_never_found_shows() -> None:
    labels = np.array([0] * 98 + [1] * 2)
    found = class_recalls(np.zeros(100, np.int64), labels, ("cat", "dog"))
    assert found.recalls == {"cat": 1.0, "dog": 0.0}
    assert found.balanced_accuracy == 0.5
    assert found.sentence() == "balanced accuracy 50.00%, lowest recall: dog 0.0%, cat 100.0%"


def test_images_that_were_trained_on_are_told() -> None:
    assert ClassRecalls({"a": 1.0, "b": 1.0}, 12).sentence().endswith("; 12 of the images were trained on")


@given(pairs=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1), seen=st.integers(0, 9))
def test_recalls_are_those_of_counting(pairs: list[tuple[int, int]], seen: int) -> None:
    classes = tuple("abcde")
    answers, labels = np.array(pairs, np.int64).T
    found = class_recalls(answers, labels, classes, seen)
    for index, name in enumerate(classes):
        mine = [answer == label for answer, label in pairs if label == index]
        assert found.recalls.get(name) == (sum(mine) / len(mine) if mine else None)
    assert recalls_from_document(found.document()) == found
