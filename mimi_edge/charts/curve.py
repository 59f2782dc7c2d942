"""The picture of what a run's tasks cost, and how good they are: a point after each training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mimi_edge.charts.saving import save
from mimi_edge.charts.style import (
    COLOURS,
    INK,
    MARKS,
    SMALL,
    SOFT,
    Entry,
    house_style,
    legend_below,
    line,
    logarithmic,
    new_figure,
)
from mimi_edge.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEAST_RANGE = 0.04
"""Of the axis of accuracy: noise should not look like a cliff."""


@dataclass(frozen=True)
class CurvePoint:
    """A task on the way.

    Attributes:
        number: what to call it.
        size_bytes: of its file.
        accuracy: by split, 0..1; all points have the same splits.
    """

    number: int
    size_bytes: int
    accuracy: Mapping[str, float]


def draw_curve(points: Sequence[CurvePoint], taken: int, path: Path, title: str, budget: int | None = None) -> None:
    """Draws accuracy against bytes, which are logarithmic, with a line for each split.

    Args:
        points: in the order of the run.
        taken: bytes of the one that is the result.
        path: of the PNG or SVG file, which appears whole or not at all.
        title: above the picture.
        budget: bytes that were allowed, if bytes were limited.

    Raises:
        ConfigError: there is nothing to draw.
        MimiEdgeError: matplotlib is not installed.
        OSError: the file cannot be written.
    """
    if not points:
        raise ConfigError("There is no task to draw.")
    with house_style():
        save(curve_figure(points, taken, title, budget), path)


def curve_figure(points: Sequence[CurvePoint], taken: int, title: str, budget: int | None = None) -> Figure:
    """The same as a figure, for use inside `house_style`."""
    figure = new_figure(7.2, 4.4, title)
    axes = figure.subplots()
    sizes = [point.size_bytes for point in points]
    logarithmic(axes, "x", [*sizes, *([budget] if budget else [])])
    entries = [_split(axes, points, split, series) for series, split in enumerate(points[0].accuracy)]
    if budget:
        drawn = axes.axvline(budget, color=COLOURS[SOFT], linewidth=1, linestyle=(0, (1, 1.5)))
        entries.append((drawn, f"budget, {budget:,} bytes"))
    _name_points(axes, points, taken)
    axes.set(xlabel="bytes of the task file", ylabel="accuracy of the stored weights, %")
    _leave_room(axes)
    legend_below(figure, entries, "Numbers are those of the trainings; the one in bold is the result")
    return figure


def _split(axes: Axes, points: Sequence[CurvePoint], split: str, series: int) -> Entry:
    sizes, values = [one.size_bytes for one in points], [100 * one.accuracy[split] for one in points]
    # Marks at 0 % are whole.
    return line(axes, sizes, values, series, split, marker=MARKS[series], markersize=6, clip_on=False)


def _name_points(axes: Axes, points: Sequence[CurvePoint], taken: int) -> None:
    for point in points:
        top, is_result = 100 * max(point.accuracy.values()), point.size_bytes == taken
        axes.annotate(
            str(point.number),
            (point.size_bytes, top),
            xytext=(0, 6),
            textcoords="offset points",
            ha="center",
            fontsize=SMALL + 1 if is_result else SMALL,
            fontweight="bold" if is_result else "normal",
            color=COLOURS[INK if is_result else SOFT],
        )


def _leave_room(axes: Axes) -> None:
    """For the numbers above the points, and around a curve that is nearly level."""
    low, high = axes.get_ylim()
    missing = max(0.0, 100 * LEAST_RANGE - (high - low)) / 2
    low, high = low - missing, high + missing + 0.08 * (high - low)
    axes.set_ylim(max(0.0, low), high)
    # Names of points want room above 100 %, which is no accuracy.
    axes.set_yticks([tick for tick in axes.get_yticks() if max(0.0, low) <= tick <= min(100.0, high)])
