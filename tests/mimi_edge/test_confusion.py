"""Which class is taken for which, as counts, table and picture."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mimi_edge.charts.confusion import MOST_CLASSES, confusion_figure, draw_confusion
from mimi_edge.charts.curve import CurvePoint, curve_figure, draw_curve
from mimi_edge.charts.style import house_style
from mimi_edge.confusion import Confusion, confusion
from mimi_edge.errors import ConfigError


def of(pairs: list[tuple[int, int]], classes: int) -> Confusion:
    """Pairs of what is shown and what was answered."""
    shows, answered = np.array(pairs, np.int64).reshape(-1, 2).T
    return confusion(answered, shows, [f"class {number}" for number in range(classes)])


@given(pairs=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4))))
def test_counts_are_those_of_counting(pairs: list[tuple[int, int]]) -> None:
    found = of(pairs, 5)
    for shows in range(5):
        for answered in range(5):
            assert found.counts[shows, answered] == pairs.count((shows, answered))
    wrong = [pair for pair in pairs if pair[0] != pair[1]]
    assert sum(one.images for one in found.mistakes) == len(wrong)
    assert [one.images for one in found.mistakes] == sorted((one.images for one in found.mistakes), reverse=True)


def test_mistakes_are_told_with_the_share_of_their_class() -> None:
    found = of([(0, 0)] * 6 + [(0, 1)] * 2 + [(1, 0)] * 2, 3)
    assert found.document() == [
        {"shows": "class 1", "answered": "class 0", "images": 2, "share": 1.0},
        {"shows": "class 0", "answered": "class 1", "images": 2, "share": 0.25},
    ]


def test_the_table_has_every_pair_whatever_the_classes_are_called() -> None:
    found = Confusion(('a,"b"', "ü\nx"), np.array([[3, 1], [0, 2]]))
    assert list(csv.reader(io.StringIO(found.csv_text()))) == [
        ["shows \\ answered", 'a,"b"', "ü\nx"],
        ['a,"b"', "3", "1"],
        ["ü\nx", "0", "2"],
    ]


def test_the_most_confused_classes_come_with_what_they_are_taken_for() -> None:
    found = of([(90, 7)] * 5 + [(3, 50)] * 4 + [(60, 61)], 100)
    assert found.most_confused(4) == [3, 7, 50, 90]
    assert found.most_confused(5) == [0, 3, 7, 50, 90]  # a pair does not come apart
    assert of([(0, 0)], 3).most_confused(2) == [0, 1]


@pytest.mark.parametrize("classes", [1, 2, MOST_CLASSES, 100])
def test_the_picture_shows_every_class_or_says_how_many_it_leaves_out(classes: int) -> None:
    found = of([(number, (number + number % 2) % classes) for number in range(classes)], classes)
    with house_style():
        axes = confusion_figure(found, "title").axes[0]
        names = [tick.get_text() for tick in axes.get_yticklabels()]
        counts = {text.get_text() for text in axes.texts}
    assert len(names) == min(classes, MOST_CLASSES)
    assert set(names) <= set(found.classes)
    assert counts == {"1"}
    assert axes.get_title() == (
        "" if classes < 100 else "the 24 of 100 classes that are confused most; confusion.csv has all"
    )


def test_other_counts_are_another_picture_and_equal_ones_the_same(tmp_path: Path) -> None:
    def drawn(pairs: list[tuple[int, int]], name: str) -> bytes:
        draw_confusion(of(pairs, 3), tmp_path / name, "$title$")
        assert Image.open(tmp_path / name).size[0] > 300
        return (tmp_path / name).read_bytes()

    assert drawn([(0, 0), (1, 1)], "a.png") == drawn([(0, 0), (1, 1)], "b.png") != drawn([(0, 0), (1, 2)], "c.png")


POINTS = [CurvePoint(1, 900_000, {"val": 0.9, "test": 0.8}), CurvePoint(2, 90_000, {"val": 0.7, "test": 0.75})]


def test_no_accuracy_above_100_is_marked() -> None:
    perfect = [CurvePoint(point.number, point.size_bytes, {"val": 1.0, "test": 0.99}) for point in POINTS]
    with house_style():
        figure = curve_figure(perfect, 90_000, "title")
        figure.draw_without_rendering()
        marked = [float(label.get_text()) for label in figure.axes[0].get_yticklabels()]
    assert max(marked) == 100
    assert figure.axes[0].get_ylim()[1] > 100


def test_the_curve_has_a_point_for_each_task_on_a_logarithmic_axis() -> None:
    with house_style():
        axes = curve_figure(POINTS, 90_000, "title", 100_000).axes[0]
        lines = {tuple(line.get_xdata()): [round(y) for y in line.get_ydata()] for line in axes.lines[1:2]}
        named = {text.get_text(): (text.get_fontweight(), text.xy[1]) for text in axes.texts}
    assert axes.get_xscale() == "log"
    assert lines == {(900_000, 90_000): [80, 75]}
    assert named == {"1": ("normal", pytest.approx(90)), "2": ("bold", pytest.approx(75))}


def test_a_curve_is_written_whole_and_of_nothing_is_refused(tmp_path: Path) -> None:
    draw_curve(POINTS[:1], 900_000, tmp_path / "curve.png", "title")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ConfigError):
        draw_curve([], 0, tmp_path / "none.png", "title")
