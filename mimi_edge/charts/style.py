"""How every chart looks: colours, lines, marks, legends and logarithmic axes, whatever matplotlib's user has set."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mimi_edge.errors import MimiEdgeError
from mimi_edge.parts import REPORT, install_line
from mimi_edge.texts import cut, safe_line

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PAPER, INK, SOFT, RULE = "paper", "ink", "soft", "rule"
COLOURS = {PAPER: "#ffffff", INK: "#1b1f24", SOFT: "#57606a", RULE: "#d0d7de"}
"""Of what is no figure, by name."""
SERIES = ("#0b5cad", "#b04a00", "#0d7a6b", "#7a3fc4", "#b3174e", "#6b5a1e", "#4a5563", "#3d7a12")
"""Of figures; the first two stay apart for all common kinds of colour blindness."""
DASHES: tuple[Any, ...] = ("-", (0, (3.5, 1.5)), (0, (1, 1.5)), (0, (4.5, 1.5, 1, 1.5)))
MARKS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*")
"""Lines and points are told apart without colour, too."""
SMALL, NORMAL, TITLE = 9, 10, 13
"""Sizes of letters, in points."""
LETTER = 0.6
"""Width of a letter on average, in its size."""
LEGEND_MARK = 5.2
"""Width of what stands before a legend's words with all that is left free, in their size."""
POINTS_PER_INCH = 72
TIP = "tip: "
"""Begins the identity of what is named when a reader points at it."""
FEWEST_TICKS = 3
MANTISSAS = (1, 2, 5)
CLOSE_MANTISSAS = (1, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8)

Entry = tuple[Any, str]
"""What a legend shows beside words: an artist, or several that stand for the same."""

_SETTINGS: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": COLOURS[SOFT],
    "axes.grid": True,
    "axes.labelcolor": COLOURS[SOFT],
    "axes.labelsize": SMALL,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": COLOURS[INK],
    "axes.titlesize": NORMAL,
    "figure.constrained_layout.use": True,
    "figure.facecolor": COLOURS[PAPER],
    "figure.labelsize": SMALL,
    "figure.titlesize": TITLE,
    "font.size": NORMAL,
    "grid.color": COLOURS[RULE],
    "grid.linewidth": 0.6,
    "legend.fontsize": SMALL,
    "legend.frameon": False,
    "legend.title_fontsize": SMALL,
    "savefig.dpi": 150,
    # The same picture has the same bytes.
    "svg.hashsalt": "mimi-edge",
    "text.color": COLOURS[INK],
    # Names are names, whatever dollar signs they have.
    "text.parse_math": False,
    "xtick.color": COLOURS[SOFT],
    "xtick.labelsize": SMALL,
    "ytick.color": COLOURS[SOFT],
    "ytick.labelsize": SMALL,
} | {f"{side}tick.{kind}.size": 0 for side in "xy" for kind in ("major", "minor")}


def why_no_charts() -> str | None:
    """Why nothing can be drawn here, with the line that mends it; None where it can."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        return f"Drawing needs matplotlib, which cannot be loaded ({error}). Install it: {install_line(REPORT)}"
    return None


def check_charts() -> None:
    """Makes sure that something can be drawn.

    Raises:
        MimiEdgeError: matplotlib is not installed, or broken.
    """
    if (why_not := why_no_charts()) is not None:
        raise MimiEdgeError(why_not)


@contextmanager
def house_style() -> Iterator[None]:
    """Everything that is drawn and saved inside looks like the rest.

    Raises:
        MimiEdgeError: matplotlib is not installed, or broken.
    """
    check_charts()
    from matplotlib import style

    with style.context(["default", _SETTINGS]), warnings.catch_warnings():
        # A letter that the font lacks is a box; nobody can do anything about it.
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        yield


def new_figure(width_inches: float, height_inches: float, title: str = "") -> Figure:
    """An empty figure, for use inside `house_style`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_inches, height_inches))
    if title:
        figure.suptitle(cut(safe_line(title), int(width_inches * POINTS_PER_INCH / (LETTER * TITLE))))
    return figure


def colour(series: int) -> str:
    """Of a line, point or bar, by its number."""
    return SERIES[series % len(SERIES)]


def line(axes: Axes, x: Sequence[float], y: Sequence[float], series: int, name: str, **how: Any) -> Entry:
    """Draws a line in its colour and dashes; after all colours were used once, they come with other dashes."""
    dashes = DASHES[(series + series // len(SERIES)) % len(DASHES)]
    [drawn] = axes.plot(x, y, color=colour(series), linestyle=dashes, linewidth=1.7, **how)
    return tip(drawn, name), safe_line(name)


def points(
    axes: Axes, x: Sequence[float], y: Sequence[float], ends: Sequence[tuple[float, float]], series: int, name: str
) -> Entry:
    """Draws points in their colour and mark.

    Args:
        axes: to draw on.
        x: of each point.
        y: of each point.
        ends: of the bar through each point.
        series: number of them all.
        name: of them all.
    """
    shown: dict[str, Any] = {"color": colour(series), "marker": MARKS[series % len(MARKS)], "linestyle": "none"}
    shown |= {"markersize": 7, "markeredgecolor": COLOURS[PAPER], "markeredgewidth": 0.6, "zorder": 3}
    axes.vlines(x, [low for low, _ in ends], [high for _, high in ends], color=colour(series), linewidth=1.2, zorder=2)
    [drawn] = axes.plot(x, y, **shown)
    return tip(drawn, name), safe_line(name)


def tip(artist: Artist, words: str) -> Artist:
    """Gives what is drawn a name for those who point at it, in charts that stand in a page."""
    artist.set_gid(TIP + safe_line(words))
    return artist


def legend_below(figure: Figure, entries: Sequence[Entry], title: str | None = None) -> None:
    """A legend below everything, in rows that are as equal as they can be."""
    longest = max(len(words) for _, words in entries) * LETTER + LEGEND_MARK
    room = figure.get_figwidth() * POINTS_PER_INCH // (longest * SMALL)
    rows = math.ceil(len(entries) / max(1, room))
    _legend(figure, entries, loc="outside lower center", ncols=math.ceil(len(entries) / rows), title=title)


def legend_beside(figure: Figure, entries: Sequence[Entry]) -> None:
    """A legend to the right, for many entries under each other."""
    _legend(figure, entries, loc="outside right center")  # in a corner it would meet the title


def _legend(figure: Figure, entries: Sequence[Entry], **how: Any) -> None:
    from matplotlib.legend_handler import HandlerTuple

    artists, words = zip(*entries, strict=True)
    figure.legend(artists, words, handler_map={tuple: HandlerTuple(ndivide=None, pad=0)}, **how)


def logarithmic(axes: Axes, which: str, values: Sequence[float], ticks: Sequence[float] = ()) -> tuple[float, float]:
    """Makes an axis logarithmic around values above 0.

    Args:
        axes: that it is of.
        which: `x` or `y`.
        values: to hold.
        ticks: to mark; else powers of ten, with 2 and 5, or yet more, between them where there are few.

    Returns:
        Its ends.
    """
    from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

    room = 1.15 if max(values) > 1.5 * min(values) else 4.0
    low, high = min(values) / room, max(values) * room
    axes.set(**{f"{which}scale": "log", f"{which}lim": (low, high)})
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(FixedLocator(list(ticks or _round_numbers(low, high))))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(StrMethodFormatter("{x:,.10g}"))
    return low, high


def _round_numbers(low: float, high: float) -> list[float]:
    found: list[float] = []
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for mantissas in ((1,), MANTISSAS, CLOSE_MANTISSAS):
        found = [m * 10.0**exponent for exponent in exponents for m in mantissas if low <= m * 10.0**exponent <= high]
        if len(found) >= FEWEST_TICKS:
            break
    return found
