"""Figures of matplotlib as pieces of a page: in the page's colours, with identities that no other piece has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from mimi_edge.charts.saving import svg_text
from mimi_edge.charts.style import POINTS_PER_INCH, TIP, house_style, new_figure
from mimi_edge.profiles.rendering.charts import Chart
from mimi_edge.profiles.rendering.markup import Markup, element, name_of, plain
from mimi_edge.profiles.rendering.styles import VARIABLES

if TYPE_CHECKING:
    from matplotlib.lines import Line2D

LINE_POINTS, MARK_POINTS, SWATCH_HEIGHT = 28, 14, 12
LEFT_OUT = frozenset({"metadata", "style"})
"""Of a picture that stands by itself; a style in a page would be one of the whole page."""
_COLOUR = re.compile(r"#[0-9a-f]{6}")
_REFERENCE = re.compile(r"(?<=^#)[^)]+$|(?<=url\(#)[^)]+(?=\))")
_FONT = re.compile(r"font: (?:(\d+) )?([\d.]+px)[^;]*")
"""How matplotlib before 3.10 says it."""
_PRECISE = re.compile(r"(\.\d\d)\d+")
"""Hundredths of a point are more than anybody sees."""
_FAMILY = re.compile(r"font-family: [^;]*;?")


def shown(chart: Chart) -> Markup:
    """The chart as HTML."""
    title, description = f"{chart.identity}-title", f"{chart.identity}-description"
    drawing = _piece(svg_text(chart.figure), chart.identity)
    drawing.attrib |= {"role": "img", "aria-labelledby": f"{title} {description}"}
    drawing[:0] = [_said("title", chart.title, id=title), _said("desc", chart.description, id=description)]
    entries = [
        element("li", _swatch(artist, f"{chart.identity}-key-{index}"), name_of(name))
        for index, (artist, name) in enumerate(chart.legend)
    ]
    legend = element("ul", *entries, class_="legend") if entries else Markup()
    return element("figure", element("figcaption", chart.title), _written(drawing), legend)


def _swatch(artist: Line2D, identity: str) -> Markup:
    """A piece of a line, or a mark, as it is in the chart."""
    from matplotlib.lines import Line2D

    is_line = artist.get_linestyle() != "None"
    width = LINE_POINTS if is_line else MARK_POINTS
    with house_style():
        figure = new_figure(width / POINTS_PER_INCH, SWATCH_HEIGHT / POINTS_PER_INCH)
        figure.set_layout_engine("none")
        drawn = Line2D([0.04, 0.5, 0.96], [0.5] * 3, markevery=[1])
        drawn.update_from(artist)
        drawn.set(transform=figure.transFigure, clip_on=False, clip_box=None, clip_path=None)
        figure.add_artist(drawn)
        piece = _piece(svg_text(figure), identity)
    piece.attrib |= {"class": "swatch" if is_line else "swatch small", "aria-hidden": "true"}
    return _written(piece)


def _piece(svg: str, identity: str) -> ET.Element:
    """A document of SVG as a piece of HTML whose identities begin with `identity`."""
    root = ET.fromstring(svg)  # noqa: S314  (matplotlib wrote it a moment ago)
    root.attrib = {"viewBox": root.attrib["viewBox"]}
    _leave_out(root)
    numbers = {name: f"{identity}-{number}" for number, name in enumerate(dict.fromkeys(_references(root)))}
    for part in root.iter():
        part.tag = part.tag.rpartition("}")[2]
        part.text, part.tail = _words(part.text), None
        part.attrib = {key.rpartition("}")[2]: value for key, value in part.attrib.items()}
        _identify(part, numbers)
        if "style" in part.attrib:
            part.attrib["style"] = _style(part.attrib["style"])
    return root


def _leave_out(root: ET.Element) -> None:
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.rpartition("}")[2] in LEFT_OUT:
                parent.remove(child)


def _references(root: ET.Element) -> Iterator[str]:
    for part in root.iter():
        for value in part.attrib.values():
            yield from _REFERENCE.findall(value)


def _identify(part: ET.Element, numbers: dict[str, str]) -> None:
    """New identities for what is referred to, none for the rest; a tip becomes a title."""
    name = part.attrib.pop("id", "")
    if name.startswith(TIP):
        part.insert(0, _said("title", name.removeprefix(TIP)))
    elif name in numbers:
        part.attrib["id"] = numbers[name]
    for key, value in part.attrib.items():
        part.attrib[key] = _REFERENCE.sub(lambda found: numbers[found[0]], value)
    if "d" in part.attrib:
        part.attrib["d"] = " ".join(_PRECISE.sub(r"\1", part.attrib["d"]).split())


def _said(tag: str, words: str, **attributes: str) -> ET.Element:
    made = ET.Element(tag, attributes)
    made.text = plain(words)
    return made


def _words(text: str | None) -> str | None:
    return text if text and text.strip() else None


def _style(style: str) -> str:
    """With the page's colours, and in its font."""
    style = _FONT.sub(lambda font: f"font-weight: {font[1] or 400}; font-size: {font[2]}", style)
    style = _FAMILY.sub("", style)
    return _COLOUR.sub(lambda colour: VARIABLES.get(colour[0], colour[0]), style)


def _written(piece: ET.Element) -> Markup:
    return Markup(ET.tostring(piece, encoding="unicode"))
