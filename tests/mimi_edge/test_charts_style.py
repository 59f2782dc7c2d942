"""What all charts share."""

import sys
from xml.etree import ElementTree as ET

import pytest

from mimi_edge.charts.saving import save, svg_text
from mimi_edge.charts.style import (
    SERIES,
    house_style,
    legend_below,
    line,
    logarithmic,
    new_figure,
    points,
    tip,
)
from mimi_edge.errors import ConfigError, MimiEdgeError


@pytest.fixture
def axes():
    with house_style():
        yield new_figure(5, 3).subplots()


@pytest.mark.parametrize("which", ["x", "y"])
@pytest.mark.parametrize("values", [[1.0], [3.0, 3.0], [0.001, 5000.0], [9.9, 10.1], [1, 100], [1e-6, 1e12]], ids=str)
def test_logarithmic_axes_hold_their_values_and_their_ticks(axes, which, values):
    low, high = logarithmic(axes, which, values)
    axis = axes.xaxis if which == "x" else axes.yaxis
    ticks = list(axis.get_majorticklocs())
    assert low < min(values) <= max(values) < high
    assert (low, high) == (axes.get_xlim() if which == "x" else axes.get_ylim())
    assert 2 <= len(ticks) <= 25
    assert all(low <= tick <= high for tick in ticks)
    axes.figure.draw_without_rendering()
    assert all(label.get_text() for label in axis.get_ticklabels())


def test_a_logarithmic_axis_marks_what_it_is_told_to(axes):
    logarithmic(axes, "x", [1, 2000], (1, 7, 2000))
    axes.figure.draw_without_rendering()
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "7", "2,000"]


def test_many_lines_and_points_are_told_apart(axes):
    several = [line(axes, [0, 1], [0, index], index, "")[0] for index in range(2 * len(SERIES))]
    assert len({(one.get_color(), str(one.get_linestyle()), str(one._dash_pattern)) for one in several}) == 16
    marks = [points(axes, [0], [index], [(0, 1)], index, "")[0] for index in range(2 * len(SERIES))]
    assert len({(one.get_color(), one.get_marker()) for one in marks}) == 16


@pytest.mark.parametrize(("length", "most_rows"), [(3, 2), (30, 5), (300, 10)])
def test_a_legend_is_no_wider_than_its_figure_unless_an_entry_is(length, most_rows):
    with house_style():
        figure = new_figure(8, 4)
        axes = figure.subplots()
        legend_below(figure, [line(axes, [0, 1], [0, 1], index, "x" * length) for index in range(10)])
        figure.draw_without_rendering()
        [legend] = figure.legends
        extent = legend.get_window_extent()
    rows = {round(words.get_window_extent().y0) for words in legend.get_texts()}
    assert len(rows) <= most_rows
    assert extent.width / figure.dpi <= 8 or len(rows) == 10


def test_texts_of_an_svg_are_texts_and_mean_nothing():
    with house_style():
        figure = new_figure(5, 3, "a $x^2$ <b> & \\frac{ \x1b")
        axes = figure.subplots()
        axes.set_xlabel("$y$")
        tip(axes.plot([0, 1])[0], '"><script>')
    root = ET.fromstring(svg_text(figure))  # noqa: S314  (made a moment ago)
    texts = [part.text for part in root.iter() if part.tag.endswith("}text")]
    assert {"a $x^2$ <b> & \\frac{ \\x1b", "$y$"} <= set(texts)
    assert not [part for part in root.iter() if part.tag.endswith("script")]


def test_a_tip_is_for_pages_and_no_identity_in_a_file(tmp_path):
    with house_style():
        figure = new_figure(5, 3)
        tip(figure.subplots().plot([0, 1])[0], "somebody's name")
    assert "somebody's name" in svg_text(figure)
    save(figure, tmp_path / "a.svg")
    assert "somebody" not in (tmp_path / "a.svg").read_text("utf-8")


def test_another_ending_is_refused(tmp_path):
    with house_style():
        figure = new_figure(1, 1)
    with pytest.raises(ConfigError, match=r"\.png or \.svg"):
        save(figure, tmp_path / "a.pdf")
    assert list(tmp_path.iterdir()) == []


def test_what_is_drawn_leaves_the_settings_of_others_alone():
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    with house_style():
        assert mpl.rcParams["text.parse_math"] is False
    assert dict(mpl.rcParams) == before


def test_without_matplotlib_it_is_said_what_to_install_and_why(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MimiEdgeError, match=r"matplotlib.*Install it: .*\[report\]"), house_style():
        pass


@pytest.mark.parametrize(("values", "least"), [((0.0198, 0.02997), 3), ((30_000, 2_000_000), 3), ((1, 1e6), 3)])
def test_a_logarithmic_axis_has_ticks_to_read_it_by(values: tuple[float, float], least: int) -> None:
    with house_style():
        axes = new_figure(4, 3, "t").subplots()
        low, high = logarithmic(axes, "x", values)
        assert sum(low <= tick <= high for tick in axes.get_xticks()) >= least
