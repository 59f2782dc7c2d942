"""The Pareto picture of a comparison: accuracy against bytes, and the methods that nothing beats in both."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mimi_edge.charts.saving import check_picture, save
from mimi_edge.charts.style import COLOURS, INK, Entry, house_style, legend_beside, logarithmic, new_figure, points
from mimi_edge.files import MEGABYTE
from mimi_edge.profiles.comparison.results import Line

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_pareto(lines: Sequence[Line], path: Path, title: str) -> None:
    """Draws every line that was trained; bars are one standard deviation.

    Args:
        lines: of a comparison.
        path: of the PNG or SVG file, which appears whole or not at all.
        title: above.

    Raises:
        ConfigError: the path's ending names no format.
        MimiEdgeError: matplotlib is not installed.
        OSError: the file cannot be written.
    """
    check_picture(path)
    with house_style():
        from matplotlib.ticker import PercentFormatter

        figure = new_figure(9.0, 5.6, title)
        axes = figure.subplots()
        shown = [line for line in lines if line.mean is not None]
        if shown:
            logarithmic(axes, "x", [_megabytes(line) for line in shown])
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.set(xlabel="task file, MB of 1000² bytes", ylabel="test accuracy")
        methods = dict.fromkeys(line.method for line in shown)
        # The legend names them, since labels beside points would lie on one another.
        entries = [
            _method_on(axes, [line for line in shown if line.method == method], number)
            for number, method in enumerate(methods)
        ]
        legend_beside(figure, [*entries, _front_on(axes, pareto_front(shown))])
        save(figure, path)


def pareto_front(lines: Sequence[Line]) -> list[Line]:
    """Lines that no other is both smaller and more accurate than, by size."""
    front: list[Line] = []
    for line in sorted(lines, key=lambda one: (one.size_bytes or 0, -(one.mean or 0))):
        if not front or (line.mean or 0) > (front[-1].mean or 0):
            front.append(line)
    return front


def _method_on(axes: Axes, lines: Sequence[Line], number: int) -> Entry:
    middle = [(line.mean or 0, line.deviation or 0) for line in lines]
    ends = [(mean - deviation, mean + deviation) for mean, deviation in middle]
    sizes = [_megabytes(line) for line in lines]
    return points(axes, sizes, [mean for mean, _ in middle], ends, number, lines[0].title)


def _front_on(axes: Axes, front: Sequence[Line]) -> Entry:
    [drawn] = axes.plot(
        [_megabytes(line) for line in front],
        [line.mean or 0 for line in front],
        color=COLOURS[INK],
        linewidth=1.1,
        linestyle=(0, (4, 3)),
        zorder=1,
    )
    return drawn, "Pareto front: no line is smaller and better"


def _megabytes(line: Line) -> float:
    return max(1, line.size_bytes or 0) / MEGABYTE
