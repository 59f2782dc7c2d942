"""The Pareto picture of a comparison: accuracy against bytes, and the methods that nothing beats in both."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mimi_edge.files import MEGABYTE
from mimi_edge.profiles.comparison.results import Line
from mimi_edge.profiles.ledger_plot import COLOURS, TEXT_COLOUR, check_plot, dress, save_plot
from mimi_edge.texts import chart_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*")


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
    form = check_plot(path)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 5.6), layout="constrained")
    axes = figure.subplots()
    shown = [line for line in lines if line.mean is not None]
    methods = list(dict.fromkeys(line.method for line in shown))
    for number, method in enumerate(methods):
        _draw_method(axes, [line for line in shown if line.method == method], number)
    front = pareto_front(shown)
    axes.plot(
        [(line.size_bytes or 0) / MEGABYTE for line in front],
        [100 * (line.mean or 0) for line in front],
        color=TEXT_COLOUR,
        linewidth=1.1,
        linestyle=(0, (4, 3)),
        zorder=1,
        label="Pareto front: no line is smaller and better",
    )
    _style(axes, chart_text(title))
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    save_plot(figure, path, form)


def pareto_front(lines: Sequence[Line]) -> list[Line]:
    """Lines that no other is both smaller and more accurate than, by size."""
    front: list[Line] = []
    for line in sorted(lines, key=lambda one: (one.size_bytes or 0, -(one.mean or 0))):
        if not front or (line.mean or 0) > (front[-1].mean or 0):
            front.append(line)
    return front


def _draw_method(axes: Axes, lines: Sequence[Line], number: int) -> None:
    """A method in its colour and mark; the legend names it, since labels beside points would lie on one another."""
    ordered = sorted(lines, key=lambda line: line.size_bytes or 0)
    axes.errorbar(
        [(line.size_bytes or 0) / MEGABYTE for line in ordered],
        [100 * (line.mean or 0) for line in ordered],
        yerr=[100 * (line.deviation or 0) for line in ordered],
        color=COLOURS[number % len(COLOURS)],
        marker=MARKS[number % len(MARKS)],
        markersize=8,
        markeredgecolor="white",
        markeredgewidth=0.6,
        linestyle="none",
        capsize=3,
        elinewidth=1.1,
        zorder=3,
        label=chart_text(ordered[0].title),
    )


def _style(axes: Axes, title: str) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axes.set_xscale("log")
    axes.set_title(title, fontsize=12, color=TEXT_COLOUR, loc="left")
    axes.set_xlabel("task file, MB of 1000² bytes", color=TEXT_COLOUR)
    axes.set_ylabel("test accuracy, %", color=TEXT_COLOUR)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    dress(axes)
    axes.tick_params(length=0, which="minor")
