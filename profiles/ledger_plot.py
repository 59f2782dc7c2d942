"""A picture of a ledger: storage and memory over the number of tasks, a line a strategy, one basis a panel."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mimi_edge.charts.saving import check_picture, save
from mimi_edge.charts.style import Entry, house_style, legend_below, line, logarithmic, new_figure
from mimi_edge.files import MEGABYTE
from mimi_edge.profiles.ledger import COMPUTED, DEFAULT_COUNTS, Cost, Ledger, Line, Panel, checked_counts, panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANEL_INCHES = 4.9
HEIGHT_INCHES = 5.6
STEPS = 60


def draw_ledger(ledger: Ledger, path: Path, counts: Sequence[int] = DEFAULT_COUNTS) -> None:
    """Draws what N tasks take, up to the largest count; a star in the legend: not of files as they lie.

    Args:
        ledger: with the strategies.
        path: of the PNG or SVG file, which appears whole or not at all.
        counts: numbers of tasks; each gets a mark.

    Raises:
        ConfigError: the path's ending names no format, or a count is below 1.
        MimiEdgeError: matplotlib is not installed.
        OSError: the file cannot be written.
    """
    check_picture(path)
    counts, drawn = checked_counts(counts), panels(ledger)
    with house_style():
        figure = new_figure(PANEL_INCHES * len(drawn), HEIGHT_INCHES, f"N tasks on {ledger.backbone}")
        across = figure.subplots(1, len(drawn))
        # The first panel is of storage, which every strategy takes.
        entries = [growth_on(axes, ledger, panel, counts) for axes, panel in zip(across, drawn, strict=True)]
        for axes, panel in zip(across, drawn, strict=True):
            axes.set_title(panel.title)
        legend_below(figure, entries[0])
        save(figure, path)


def growth_on(axes: Axes, ledger: Ledger, panel: Panel, counts: Sequence[int]) -> list[Entry]:
    """Draws what N tasks take, up to the largest of `counts`, each of which gets a mark; for use in `house_style`."""
    numbers = growing_numbers(counts)
    marked = [numbers.index(count) for count in counts]
    totals = {index: [_megabytes(cost, number) for number in numbers] for index, cost in panel.costs}
    logarithmic(axes, "x", numbers, counts)
    logarithmic(axes, "y", [size for sizes in totals.values() for size in sizes])
    axes.set_xlabel(f"tasks ({panel.basis})")
    axes.set_ylabel("MB")
    return [
        line(axes, numbers, sizes, index, _label(ledger.lines[index]), marker="o", markersize=3.5, markevery=marked)
        for index, sizes in totals.items()
    ]


def growing_numbers(counts: Sequence[int]) -> list[int]:
    """From 1 to the largest of `counts`, in about equal ratios, with all of them."""
    most = max([2, *counts])
    return sorted({round(most ** (step / STEPS)) for step in range(STEPS + 1)} | set(counts))


def _megabytes(cost: Cost, tasks: int) -> float:
    """At least a byte, for a logarithmic axis has no nothing."""
    return max(1, cost.total_bytes(tasks)) / MEGABYTE


def _label(line: Line) -> str:
    """The title; a star where storage is not of files as they lie."""
    return line.title + (" *" if line.storage.basis == COMPUTED else "")
