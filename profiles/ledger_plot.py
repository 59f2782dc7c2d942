"""A picture of a ledger: storage and memory over the number of tasks, a line a strategy, one basis a panel."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimi_edge.errors import ConfigError, MimiEdgeError
from mimi_edge.files import MEGABYTE, check_place, whole_file
from mimi_edge.parts import REPORT, install_line
from mimi_edge.profiles.ledger import COMPUTED, DEFAULT_COUNTS, Ledger, Line, Panel, checked_counts, panels
from mimi_edge.texts import chart_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg")
COLOURS = ("#0b5cad", "#b04a00", "#0d7a6b", "#7a3fc4", "#b3174e", "#6b5a1e", "#4a5563", "#3d7a12")
STYLES = ("-", "--", ":", "-.")
TEXT_COLOUR = "#333333"
LINE_COLOUR = "#d9d9d9"
DPI = 150
STEPS = 60


def check_plot(path: Path) -> str:
    """The format that a path's ending names; for a look before anything is worked out.

    Raises:
        ConfigError: it is neither PNG nor SVG, or the place cannot be written.
        MimiEdgeError: matplotlib is not installed.
    """
    if (suffix := path.suffix.lower()) not in SUFFIXES:
        raise ConfigError(f"A plot is written as {' or '.join(SUFFIXES)}, by its ending; got {path.name!r}.")
    check_place(path)
    _figure_class()
    return suffix.removeprefix(".")


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
    form = check_plot(path)
    save_plot(_figure(ledger, checked_counts(counts)), path, form)


def save_plot(figure: Figure, path: Path, form: str) -> None:
    """Writes a picture whole, in a format that `check_plot` gave, without what would differ the next time."""
    metadata: dict[str, Any] = {"Date": None, "Creator": None} if form == "svg" else {"Software": None}
    with whole_file(path) as beside:
        figure.savefig(beside, format=form, dpi=DPI, metadata=metadata)


def dress(axes: Axes) -> None:
    """A pale grid, and no more lines than needed."""
    axes.grid(color=LINE_COLOUR, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, colors=TEXT_COLOUR)
    axes.spines[["top", "right"]].set_visible(False)


def _figure_class() -> type[Figure]:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MimiEdgeError(f"Drawing needs matplotlib. Install it: {install_line(REPORT)}") from error
    return Figure


def _figure(ledger: Ledger, counts: Sequence[int]) -> Figure:
    drawn = panels(ledger)
    figure = _figure_class()(figsize=(1 + 4.5 * len(drawn), 5.6), layout="constrained")
    figure.suptitle(f"N tasks on {chart_text(ledger.backbone)}", fontsize=13, color=TEXT_COLOUR)
    across = figure.subplots(1, len(drawn))
    for axes, panel in zip(across, drawn, strict=True):
        _draw_panel(axes, ledger, panel, counts)
    handles, labels = across[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


def _draw_panel(axes: Axes, ledger: Ledger, panel: Panel, counts: Sequence[int]) -> None:
    most = max(2, *counts)
    numbers = sorted({round(most ** (step / STEPS)) for step in range(STEPS + 1)} | set(counts))
    marked = [numbers.index(count) for count in counts]
    for index, cost in panel.costs:
        axes.plot(
            numbers,
            [max(1, cost.total_bytes(number)) / MEGABYTE for number in numbers],
            label=_label(ledger.lines[index]),
            color=COLOURS[index % len(COLOURS)],
            linestyle=STYLES[(index + index // len(COLOURS)) % len(STYLES)],
            marker="o",
            markersize=3.5,
            markevery=marked,
        )
    _style(axes, panel, counts)


def _label(line: Line) -> str:
    """The title; a star where storage is not of files as they lie."""
    return chart_text(line.title) + (" *" if line.storage.basis == COMPUTED else "")


def _style(axes: Axes, panel: Panel, counts: Sequence[int]) -> None:
    from matplotlib.ticker import NullLocator, StrMethodFormatter

    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_title(f"{panel.title}\n{panel.basis}", fontsize=10, color=TEXT_COLOUR)
    axes.set_xlabel("tasks", fontsize=9, color=TEXT_COLOUR)
    axes.set_ylabel("MB", color=TEXT_COLOUR)
    axes.set_xticks(list(counts), [f"{count:,}" for count in counts])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    dress(axes)
