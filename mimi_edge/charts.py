"""Pictures of a run: where the neurons were, and where they stayed."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimi_edge.errors import ConfigError, MimiEdgeError
from mimi_edge.files import whole_file
from mimi_edge.parts import TRAIN, install_line
from mimi_edge.sites import Neurons, Site
from mimi_edge.texts import chart_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Colour = tuple[float, float, float]

DPI = 150
BAR_WIDTH = 0.78
VALUE_POINTS = 8.0
LEGEND_ENTRY_INCHES = 2.0
EMPTY_HEIGHT = 0.5
"""Where the cross of a site without neurons is, in neurons: between the axis and the first tick."""
INSIDE: dict[str, Any] = {"xytext": (0, -3), "va": "top", "color": "white", "fontweight": "bold", "zorder": 40}
ABOVE: dict[str, Any] = {
    "xytext": (0, 2),
    "va": "bottom",
    "color": "#666666",
    "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 0.6},
}
CROSS: dict[str, Any] = {"color": "black", "markersize": 7, "markeredgewidth": 1.8}
TEXT_COLOUR = "#333333"
LINE_COLOUR = "#d9d9d9"


@dataclass(frozen=True)
class _Kind:
    """One of the two kinds of sites, with its palest and darkest shade.

    Blue and orange stay apart for all common kinds of colour blindness; shades of both are equally light.
    """

    label: str
    pale: Colour
    dark: Colour

    def shade(self, share: float) -> Colour:
        """A colour between pale (0) and dark (1)."""
        red, green, blue = (low + (high - low) * share for low, high in zip(self.pale, self.dark, strict=True))
        return red, green, blue


ATTENTION = _Kind("attention", (0.80, 0.88, 0.96), (0.03, 0.29, 0.54))
MLP = _Kind("MLP", (0.99, 0.88, 0.74), (0.70, 0.26, 0.00))


def draw_neurons_per_site(
    rounds: Sequence[Mapping[str, int]],
    sites: Sequence[Site],
    path: Path,
    title: str = "Neurons per site",
) -> None:
    """Draws how many neurons every site has before and after each round, as in the paper's Fig. 5.

    One panel is of the attention sites, one of the MLP sites, both in network order. A site's bars stand one in front
    of the other, the palest of the start, the darkest of the end. The number above is of the start, the one inside is
    of the end, and a cross marks a site that ends with none.

    Args:
        rounds: neurons of each site at the start, after the first pruning, and so on to the end; a site that is missing
            has none.
        sites: every site, in network order.
        path: of the PNG file, which appears whole or not at all.
        title: above the picture.

    Raises:
        ConfigError: there is nothing to draw, or a site that the network does not have.
        MimiEdgeError: matplotlib is not installed.
        OSError: the file cannot be written.
    """
    _check(rounds, sites)
    figure = _figure(rounds, sites, title)
    with whole_file(path) as beside:
        figure.savefig(beside, format="png", dpi=DPI, metadata={"Software": None})


def _check(rounds: Sequence[Neurons], sites: Sequence[Site]) -> None:
    unknown = {name for neurons in rounds for name in neurons} - {site.name for site in sites}
    if not rounds or not sites or unknown:
        raise ConfigError(
            "Neurons per site need a network with sites and at least one state of it; got "
            f"{len(sites)} sites, {len(rounds)} states and unknown sites {sorted(unknown)}."
        )


def _figure(rounds: Sequence[Neurons], sites: Sequence[Site], title: str) -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MimiEdgeError(f"Drawing needs matplotlib. Install it: {install_line(TRAIN)}") from error
    panels = {kind: [site for site in sites if _kind(site) is kind] for kind in (ATTENTION, MLP)}
    panels = {kind: members for kind, members in panels.items() if members}
    columns = max(len(members) for members in panels.values())
    figure = Figure(figsize=(max(8.0, 1.6 + 0.42 * columns), 1.7 + 2.5 * len(panels)), layout="constrained")
    figure.suptitle(chart_text(title), fontsize=13, color=TEXT_COLOUR)
    grid = figure.subplots(len(panels), 1, sharey=True, squeeze=False)
    for axes, (kind, members) in zip(grid[:, 0], panels.items(), strict=True):
        _draw_panel(axes, kind, members, rounds)
    _draw_legend(figure, list(panels), rounds, any(not rounds[-1].get(site.name, 0) for site in sites))
    return figure


def _draw_panel(axes: Axes, kind: _Kind, sites: Sequence[Site], rounds: Sequence[Neurons]) -> None:
    positions = range(len(sites))
    for index, neurons in enumerate(rounds):
        heights = [neurons.get(site.name, 0) for site in sites]
        axes.bar(positions, heights, BAR_WIDTH, color=kind.shade(_share(index, rounds)), zorder=2 + index)
    _style(axes, kind, sites, max(2, *(count for neurons in rounds for count in neurons.values())))
    _mark_ends(axes, sites, rounds)
    _mark_widths(axes, sites)


def _style(axes: Axes, kind: _Kind, sites: Sequence[Site], most: int) -> None:
    from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

    # Few neurons must stay visible beside hundreds, and none must have a place: linear up to 1, logarithmic above.
    axes.set_yscale("symlog", base=2, linthresh=1, linscale=1)
    ticks = [0] + [4**power for power in range(12) if 4**power <= 2 * most]
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.set_ylim(0, 5 * most)
    axes.set_xlim(-0.7, len(sites) - 0.3)
    axes.set_xticks(range(len(sites)), [_block(site) for site in sites], fontsize=8)
    axes.set_ylabel(f"{kind.label}\nneurons (log scale)", color=TEXT_COLOUR)
    axes.set_xlabel("block", fontsize=9, color=TEXT_COLOUR)
    axes.grid(axis="y", color=LINE_COLOUR, linewidth=0.6, zorder=0)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, colors=TEXT_COLOUR)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _mark_ends(axes: Axes, sites: Sequence[Site], rounds: Sequence[Neurons]) -> None:
    """Writes what is left into each site's last bar and what there was above its highest, and crosses out the empty."""
    empty = []
    for position, site in enumerate(sites):
        left = rounds[-1].get(site.name, 0)
        highest = max(neurons.get(site.name, 0) for neurons in rounds)
        if left:
            _write(axes, left, position, INSIDE)
        else:
            empty.append(position)
        if highest > left:
            _write(axes, highest, position, ABOVE)
    # A white disc behind the cross: it may lie on a dark bar of the last but one round.
    axes.plot(empty, [EMPTY_HEIGHT] * len(empty), "o", color="white", markersize=13, zorder=49)
    axes.plot(empty, [EMPTY_HEIGHT] * len(empty), "x", **CROSS, zorder=50)


def _write(axes: Axes, neurons: int, position: int, style: Mapping[str, Any]) -> None:
    axes.annotate(
        str(neurons), (position, neurons), textcoords="offset points", ha="center", fontsize=VALUE_POINTS, **style
    )


def _mark_widths(axes: Axes, sites: Sequence[Site]) -> None:
    """Names the width of each run of equally wide sites, with a line between runs."""
    start = 0
    for width, members in groupby(sites, key=lambda site: site.width):
        count = len(list(members))
        if start:
            axes.axvline(start - 0.5, color="#999999", linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
        axes.annotate(
            f"M = {width}",
            (start + (count - 1) / 2, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, -3),
            textcoords="offset points",
            ha="center",
            va="top",
            fontsize=8,
            color="#666666",
        )
        start += count


def _draw_legend(figure: Figure, kinds: Sequence[_Kind], rounds: Sequence[Neurons], has_empty: bool) -> None:
    from matplotlib.legend_handler import HandlerTuple
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [
        tuple(Patch(color=kind.shade(_share(index, rounds))) for kind in kinds) for index in range(len(rounds))
    ]
    labels = [f"{_state(index, rounds)}: {sum(neurons.values()):,}" for index, neurons in enumerate(rounds)]
    if has_empty:
        handles.append(Line2D([], [], marker="x", linestyle="", **CROSS))
        labels.append("no neuron left")
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=_columns(len(handles), figure.get_figwidth()),
        frameon=False,
        fontsize=9,
        title="Neurons in the whole network",
        title_fontsize=9,
        handler_map={tuple: HandlerTuple(ndivide=None, pad=0)},
    )


def _columns(entries: int, width_inches: float) -> int:
    """Columns of a legend that fit the width, with rows as equal as they can be."""
    rows = math.ceil(entries / (width_inches // LEGEND_ENTRY_INCHES))
    return math.ceil(entries / rows)


def _share(index: int, rounds: Sequence[Neurons]) -> float:
    """How dark a state is: 0 at the start, 1 at the end."""
    return index / (len(rounds) - 1) if len(rounds) > 1 else 1.0


def _state(index: int, rounds: Sequence[Neurons]) -> str:
    if index == 0:
        return "start"
    return f"after round {index}" + (" (final)" if index == len(rounds) - 1 else "")


def _kind(site: Site) -> _Kind:
    return ATTENTION if "att" in site.name.rpartition(".")[2].lower() else MLP


def _block(site: Site) -> str:
    """The numbers in a site's name: `0.1` for `layers.0.blocks.1.attn`."""
    return ".".join(re.findall(r"\d+", site.name)) or site.name
