"""The picture of which class is taken for which."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mimi_edge.charts.saving import save
from mimi_edge.charts.style import COLOURS, INK, PAPER, SERIES, SMALL, house_style, new_figure
from mimi_edge.confusion import Confusion
from mimi_edge.texts import cut, safe_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

MOST_CLASSES = 24
"""That a picture shows in full; of more it shows those that are most confused."""
LONGEST_NAME, FLAT_LETTERS = 22, 3
"""Letters of a class's name, and those that have room above each other's cells."""
CELL_INCHES, ROOM_INCHES = 0.36, 2.6
SMALLEST_INCHES = 2.4
"""Of the side of the matrix: two classes have room for their names, too."""
DARK = 0.55
"""Share from which on a cell is so dark that its count is written in white."""


def draw_confusion(matrix: Confusion, path: Path, title: str) -> None:
    """Draws the matrix: rows are what images show, columns what was answered, colours the share of a row.

    Args:
        matrix: of any number of classes; where there are more than can be read, the most confused are shown.
        path: of the PNG or SVG file, which appears whole or not at all.
        title: above the picture.

    Raises:
        MimiEdgeError: matplotlib is not installed.
        OSError: the file cannot be written.
    """
    with house_style():
        save(confusion_figure(matrix, title), path)


def confusion_figure(matrix: Confusion, title: str) -> Figure:
    """The same as a figure, for use inside `house_style`."""
    count = len(matrix.classes)
    chosen = list(range(count)) if count <= MOST_CLASSES else matrix.most_confused(MOST_CLASSES)
    shown = matrix.only(chosen)
    side = max(SMALLEST_INCHES, CELL_INCHES * len(chosen))
    figure = new_figure(side + ROOM_INCHES + 0.6, side + ROOM_INCHES, title)
    axes = figure.subplots()
    _draw_cells(axes, shown, matrix.shares[chosen][:, chosen])
    if len(chosen) < count:
        axes.set_title(f"the {len(chosen)} of {count} classes that are confused most; confusion.csv has all")
    return figure


def _draw_cells(axes: Axes, shown: Confusion, shares: object) -> None:
    """A cell for each pair of classes, its count inside where there is one."""
    image = axes.imshow(shares, cmap=_colours(), vmin=0, vmax=1, aspect="equal")  # type: ignore[arg-type]
    names = [cut(safe_line(name), LONGEST_NAME) for name in shown.classes]
    places = range(len(names))
    lies = len(names) <= 2 or max(map(len, names)) <= FLAT_LETTERS
    axes.set_xticks(places, names, rotation=0 if lies else 90)
    axes.set_yticks(places, names)
    axes.set(xlabel="answered", ylabel="the image shows")
    axes.grid(visible=False)
    axes.spines[:].set_visible(True)
    _write_counts(axes, shown, image.get_array())
    bar = axes.figure.colorbar(image, ax=axes, shrink=0.8, label="share of the class's images")
    bar.ax.grid(visible=False)
    bar.outline.set_visible(False)


def _write_counts(axes: Axes, shown: Confusion, shares: object) -> None:
    size = SMALL if len(shown.classes) <= 12 else SMALL - 2
    for row, counts in enumerate(shown.counts.tolist()):
        for column, count in enumerate(counts):
            if count:
                dark = shares[row, column] > DARK  # type: ignore[index]
                colour = COLOURS[PAPER if dark else INK]
                axes.text(column, row, f"{count:,}", ha="center", va="center", color=colour, fontsize=size)


def _colours() -> Colormap:
    """From paper to the first colour of all charts."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("share", [COLOURS[PAPER], SERIES[0]])
