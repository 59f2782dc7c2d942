"""Charts on their way out: whole files, and SVG whose texts are texts, the same bytes each time."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimi_edge.charts.style import check_charts, house_style
from mimi_edge.errors import ConfigError
from mimi_edge.files import check_place, whole_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg")
NOT_SAID: dict[str, dict[str, Any]] = {".png": {"Software": None}, ".svg": {"Date": None, "Creator": None}}
"""What would be another the next time."""


def check_picture(path: Path) -> str:
    """The format that a path's ending names; for a look before anything is worked out.

    Raises:
        ConfigError: it is neither PNG nor SVG, or the place cannot be written.
        MimiEdgeError: matplotlib is not installed.
    """
    if (suffix := path.suffix.lower()) not in SUFFIXES:
        raise ConfigError(f"A plot is written as {' or '.join(SUFFIXES)}, by its ending; got {path.name!r}.")
    check_place(path)
    check_charts()
    return suffix


def save(figure: Figure, path: Path) -> None:
    """Writes a picture whole, as its ending says; letters of an SVG are drawn, so that no font is needed.

    Raises:
        ConfigError: the ending is neither of PNG nor of SVG.
        OSError: the file cannot be written.
    """
    suffix = check_picture(path)
    for artist in figure.findobj():
        artist.set_gid(None)
    with house_style(), whole_file(path) as beside:
        figure.savefig(beside, format=suffix.removeprefix("."), metadata=NOT_SAID[suffix])


def svg_text(figure: Figure) -> str:
    """The picture as a document of SVG on nothing, its texts as texts."""
    import matplotlib as mpl

    written = io.StringIO()
    with house_style(), mpl.rc_context({"svg.fonttype": "none"}):
        figure.savefig(written, format="svg", metadata=NOT_SAID[".svg"], transparent=True)
    return written.getvalue()
