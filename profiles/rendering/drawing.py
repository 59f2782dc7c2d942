"""SVG charts that stand in a page: a frame with axes, lines with a legend below, a title and a description for all.

Colours are variables of the page's style sheet, so that they follow its light or dark scheme.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mimi_edge.profiles.rendering.axes import Axis
from mimi_edge.profiles.rendering.figures import figure
from mimi_edge.profiles.rendering.markup import Content, Markup, element, joined, name_of

WIDTH, HEIGHT = 420, 270
LEFT, RIGHT, TOP, BOTTOM = 66, 408, 12, 226
SERIES = 8
DASHES = (None, "7 3", "2 3", "9 3 2 3")
"""Lines are told apart without colour, too."""
NOTHING = Markup()


@dataclass(frozen=True)
class Chart:
    """A chart before it stands in a page.

    Attributes:
        identity: unique in the page.
        title: what it shows.
        description: what one sees in it, for those who do not.
        body: SVG.
        legend: HTML; empty where there is nothing to tell apart.
    """

    identity: str
    title: str
    description: str
    body: Markup
    legend: Markup = NOTHING


def shown(chart: Chart) -> Markup:
    """The chart as HTML."""
    title, description = f"{chart.identity}-title", f"{chart.identity}-description"
    drawing = element(
        "svg",
        element("title", chart.title, id=title),
        element("desc", chart.description, id=description),
        chart.body,
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_labelledby=f"{title} {description}",
    )
    return element("figure", element("figcaption", chart.title), drawing, chart.legend)


def frame(across: Axis, up: Axis, across_title: str, up_title: str, *, across_labels: bool = True) -> Markup:
    """Grid, ticks and titles of two axes."""
    parts: list[Content] = []
    for tick in up.ticks:
        y = up.place(tick)
        parts.append(element("line", x1=LEFT, x2=RIGHT, y1=y, y2=y, class_="grid"))
        parts.append(element("text", figure(tick), x=LEFT - 6, y=y + 4, class_="tick end"))
    for tick in across.ticks:
        x = across.place(tick)
        parts.append(element("line", x1=x, x2=x, y1=BOTTOM, y2=BOTTOM + 4, class_="axis"))
        if across_labels:
            parts.append(element("text", figure(tick), x=x, y=BOTTOM + 18, class_="tick middle"))
    parts.append(element("line", x1=LEFT, x2=RIGHT, y1=BOTTOM, y2=BOTTOM, class_="axis"))
    middle = (TOP + BOTTOM) / 2
    parts.append(element("text", across_title, x=(LEFT + RIGHT) / 2, y=HEIGHT - 6, class_="label middle"))
    parts.append(element("text", up_title, x=-middle, y=12, transform="rotate(-90)", class_="label middle"))
    return joined(*parts)


def line(points: Sequence[tuple[float, float]], series: int, title: str) -> Markup:
    """A line through places, named when one points at it."""
    path = " ".join(f"{'L' if index else 'M'}{x:g} {y:g}" for index, (x, y) in enumerate(points))
    return element(
        "path", element("title", title), d=path, class_=f"line {colour(series)}", stroke_dasharray=_dash(series)
    )


def colour(series: int) -> str:
    """Class of a series' colour."""
    return f"s{series % SERIES}"


def legend(names: Mapping[int, str]) -> Markup:
    """Names of series, by their numbers, beside a piece of their lines."""
    return _legend(list(names.values()), [_line_swatch(series) for series in names])


def dots_legend(names: Sequence[str]) -> Markup:
    """Names of the series beside a dot."""
    dots = [element("circle", cx=6, cy=6, r=4.5, class_=f"dot {colour(index)}") for index in range(len(names))]
    return _legend(names, [_swatch(dot, 12) for dot in dots])


def bars_legend(names: Sequence[str]) -> Markup:
    """Names of the series beside a piece of a bar."""
    bars = [
        element("rect", x=0, y=0, width=12, height=12, class_=f"bar {colour(index)}") for index in range(len(names))
    ]
    return _legend(names, [_swatch(bar, 12) for bar in bars])


def _legend(names: Sequence[str], swatches: Sequence[Markup]) -> Markup:
    entries = (element("li", swatch, name_of(name)) for name, swatch in zip(names, swatches, strict=True))
    return element("ul", *entries, class_="legend")


def _line_swatch(series: int) -> Markup:
    stroke = element("line", x1=1, x2=27, y1=6, y2=6, class_=f"line {colour(series)}", stroke_dasharray=_dash(series))
    return _swatch(stroke, 28)


def _swatch(drawn: Markup, width: int) -> Markup:
    kind = "swatch" if width > 12 else "swatch small"
    return element("svg", drawn, viewBox=f"0 0 {width} 12", class_=kind, aria_hidden="true")


def _dash(series: int) -> str | None:
    # After all colours were used once, the same ones come with another dash.
    return DASHES[(series + series // SERIES) % len(DASHES)]
