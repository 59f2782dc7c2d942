"""The picture of where the neurons were, and where they stayed."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimi_edge.charts.saving import save
from mimi_edge.charts.style import (
    COLOURS,
    INK,
    LETTER,
    PAPER,
    POINTS_PER_INCH,
    RULE,
    SERIES,
    SOFT,
    Entry,
    house_style,
    legend_below,
    new_figure,
    tip,
)
from mimi_edge.errors import ConfigError
from mimi_edge.sites import Neurons, Site
from mimi_edge.texts import cut, safe_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Colour = tuple[float, float, float]

BAR_WIDTH = 0.78
VALUE_POINTS = 8.0
VALUE_ROOM = 18
"""Points between two bars from which on there is room for their values."""
MARGIN_INCHES = 0.9
"""Of a figure's width, for the axis up."""
LONGEST_BLOCK = 16
"""Letters of what is written below a bar."""
PALEST = 0.2
"""Share of its colour that the first of many states has."""
EMPTY_HEIGHT = 0.5
"""Where the cross of a site without neurons is, in neurons: between the axis and the first tick."""
INSIDE: dict[str, Any] = {
    "xytext": (0, -3),
    "va": "top",
    "color": COLOURS[PAPER],
    "fontweight": "bold",
    "zorder": 40,
}
ABOVE: dict[str, Any] = {
    "xytext": (0, 2),
    "va": "bottom",
    "color": COLOURS[SOFT],
    "bbox": {"facecolor": COLOURS[PAPER], "edgecolor": "none", "pad": 0.6},
}
CROSS: dict[str, Any] = {"color": COLOURS[INK], "markersize": 7, "markeredgewidth": 1.8}


@dataclass(frozen=True)
class Kind:
    """One of the two kinds of sites, with the colour of its end."""

    label: str
    colour: str

    def shade(self, share: float) -> Colour:
        """A colour between pale (0) and its own (1)."""
        strength = PALEST + (1 - PALEST) * share
        red, green, blue = (int(self.colour[start : start + 2], 16) / 255 for start in (1, 3, 5))
        return 1 - (1 - red) * strength, 1 - (1 - green) * strength, 1 - (1 - blue) * strength


ATTENTION = Kind("attention", SERIES[0])
MLP = Kind("MLP", SERIES[1])


def draw_neurons_per_site(
    rounds: Sequence[Neurons], sites: Sequence[Site], path: Path, title: str = "Neurons per site"
) -> None:
    """Draws how many neurons every site has before and after each round, as in the paper's Fig. 5.

    One panel is of the attention sites, one of the MLP sites, both in network order. A site's bars stand one in front
    of the other, the palest of the start, the darkest of the end. The number above is of the start, the one inside is
    of the end, and a cross marks a site that ends with none.

    Args:
        rounds: neurons of each site at the start, after the first pruning, and so on to the end; a site that is missing
            has none.
        sites: every site, in network order.
        path: of the PNG or SVG file, which appears whole or not at all.
        title: above the picture.

    Raises:
        ConfigError: there is nothing to draw, or a site that the network does not have.
        MimiEdgeError: matplotlib is not installed.
        OSError: the file cannot be written.
    """
    _check(rounds, sites)
    with house_style():
        widths = {site.name: site.width for site in sites}
        panels = panels_of(widths)
        most = max(len(names) for names in panels.values())
        figure = new_figure(max(8.0, 1.6 + 0.42 * most), 1.7 + 2.5 * len(panels), title)
        empty = neurons_on(figure, rounds, list(widths), widths)
        legend_below(figure, [*_states(panels, rounds), *empty], "Neurons in the whole network")
        save(figure, path)


def neurons_on(
    figure: Figure, rounds: Sequence[Neurons], names: Sequence[str], widths: Mapping[str, int] | None = None
) -> list[Entry]:
    """Draws a panel for each kind of site, for use inside `house_style`.

    Args:
        figure: to draw on; values are written where it has room for them.
        rounds: neurons of each site, state by state.
        names: of all sites, in network order.
        widths: of each site's tokens; None where they are not known.

    Returns:
        For the legend, what marks a site without neurons, if there is one.
    """
    panels = panels_of(names)
    grid = figure.subplots(len(panels), 1, sharey=True, squeeze=False)
    most = max([2, *(count for neurons in rounds for count in neurons.values())])
    # The tallest bar has room above for its value, and for the widths where they are written.
    grid[0, 0].set_ylim(0, most * (2.5 if widths is None else 5))
    room = (figure.get_figwidth() - MARGIN_INCHES) * POINTS_PER_INCH / max(map(len, panels.values()))
    for axes, (kind, members) in zip(grid[:, 0], panels.items(), strict=True):
        _style(axes, most)
        _draw_panel(axes, kind, members, rounds, room)
        empty = [position for position, name in enumerate(members) if not rounds[-1].get(name, 0)]
        _mark_empty(axes, empty, min(CROSS["markersize"], room), on_bars=len(rounds) > 1)
        if room >= VALUE_ROOM:
            _write_values(axes, members, rounds)
        if widths is not None:
            _mark_widths(axes, [widths[name] for name in members])
    figure.supylabel("neurons (log scale)", color=COLOURS[SOFT])
    axes.set_xlabel("block")
    return [(_cross(), "no neuron left")] if any(not rounds[-1].get(name, 0) for name in names) else []


def panels_of(names: Iterable[str]) -> dict[Kind, list[str]]:
    """Names of sites by kind, without kinds that there are none of."""
    found = {kind: [name for name in names if _kind(name) is kind] for kind in (ATTENTION, MLP)}
    return {kind: members for kind, members in found.items() if members}


def _check(rounds: Sequence[Neurons], sites: Sequence[Site]) -> None:
    unknown = {name for neurons in rounds for name in neurons} - {site.name for site in sites}
    if not rounds or not sites or unknown:
        raise ConfigError(
            "Neurons per site need a network with sites and at least one state of it; got "
            f"{len(sites)} sites, {len(rounds)} states and unknown sites {sorted(unknown)}."
        )


def _draw_panel(axes: Axes, kind: Kind, names: Sequence[str], rounds: Sequence[Neurons], room: float) -> None:
    for index, neurons in enumerate(rounds):
        heights = [neurons.get(name, 0) for name in names]
        shade = kind.shade(_share(index, rounds))
        bars = axes.bar(range(len(names)), heights, BAR_WIDTH, color=shade, zorder=2 + index)
        for bar, name, height in zip(bars, names, heights, strict=True):
            tip(bar, f"{name}: {height}")
    axes.set_ylabel(kind.label)
    axes.set_xlim(-0.7, len(names) - 0.3)
    labels = [_block(name) for name in names]
    step = math.ceil((max(map(len, labels)) + 1) * LETTER * VALUE_POINTS / room)
    axes.set_xticks(range(0, len(names), step), labels[::step], fontsize=VALUE_POINTS)


def _style(axes: Axes, most: int) -> None:
    from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

    # Few neurons must stay visible beside hundreds, and none must have a place: linear up to 1, logarithmic above.
    axes.set_yscale("symlog", base=2, linthresh=1, linscale=1)
    ticks = [0] + [4**power for power in range(12) if 4**power <= 2 * most]
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.grid(visible=False, axis="x")
    axes.spines["left"].set_visible(False)


def _write_values(axes: Axes, names: Sequence[str], rounds: Sequence[Neurons]) -> None:
    """Writes what is left into each site's last bar, and above its highest what there was."""
    for position, name in enumerate(names):
        left = rounds[-1].get(name, 0)
        highest = max(neurons.get(name, 0) for neurons in rounds)
        if left and len(rounds) > 1:
            _write(axes, left, position, INSIDE)
        if highest > left or len(rounds) == 1:
            _write(axes, highest, position, ABOVE)


def _write(axes: Axes, neurons: int, position: int, style: Mapping[str, Any]) -> None:
    if neurons:
        place = (position, neurons)
        axes.annotate(str(neurons), place, textcoords="offset points", ha="center", fontsize=VALUE_POINTS, **style)


def _mark_empty(axes: Axes, positions: Sequence[int], size: float, *, on_bars: bool) -> None:
    heights = [EMPTY_HEIGHT] * len(positions)
    if on_bars:
        # A disc of paper behind the cross: it may lie on a dark bar of the last but one round.
        axes.plot(positions, heights, "o", color=COLOURS[PAPER], markersize=13, zorder=49)
    axes.plot(positions, heights, "x", **CROSS | {"markersize": size}, zorder=50)


def _mark_widths(axes: Axes, widths: Sequence[int]) -> None:
    """Names the width of each run of equally wide sites, with a line between runs."""
    start = 0
    for width, members in groupby(widths):
        count = len(list(members))
        if start:
            axes.axvline(start - 0.5, color=COLOURS[RULE], linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
        axes.annotate(
            f"M = {width}",
            (start + (count - 1) / 2, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, -3),
            textcoords="offset points",
            ha="center",
            va="top",
            fontsize=VALUE_POINTS,
            color=COLOURS[SOFT],
        )
        start += count


def _states(kinds: Iterable[Kind], rounds: Sequence[Neurons]) -> list[Entry]:
    from matplotlib.patches import Patch

    kinds = list(kinds)
    return [
        (
            tuple(Patch(color=kind.shade(_share(index, rounds))) for kind in kinds),
            f"{_state(index, rounds)}: {sum(neurons.values()):,}",
        )
        for index, neurons in enumerate(rounds)
    ]


def _cross() -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], marker="x", linestyle="", **CROSS)


def _share(index: int, rounds: Sequence[Neurons]) -> float:
    """How dark a state is: 0 at the start, 1 at the end."""
    return index / (len(rounds) - 1) if len(rounds) > 1 else 1.0


def _state(index: int, rounds: Sequence[Neurons]) -> str:
    if index == 0:
        return "start"
    return f"after round {index}" + (" (final)" if index == len(rounds) - 1 else "")


def _kind(name: str) -> Kind:
    return ATTENTION if "att" in name.rpartition(".")[2].lower() else MLP


def _block(name: str) -> str:
    """The numbers in a site's name: `0.1` for `layers.0.blocks.1.attn`."""
    return cut(".".join(re.findall(r"\d+", name)) or safe_line(name), LONGEST_BLOCK)
