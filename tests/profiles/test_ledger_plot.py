"""The ledger's picture."""

import sys
from dataclasses import replace
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from matplotlib import rc_context
from PIL import Image

from mimi_edge.charts.saving import check_picture
from mimi_edge.errors import ConfigError, MimiEdgeError
from mimi_edge.profiles.ledger import COMPUTED, ESTIMATE, FILES, MEASURED, Cost, Ledger, Line, panels
from mimi_edge.profiles.ledger_plot import draw_ledger, growing_numbers


@pytest.fixture
def ledger():
    lines = (
        Line("full-models", "full models", Cost(0, 24_000_000, 2, COMPUTED), Cost(0, 24_000_000, 2, ESTIMATE), ""),
        Line("onnx-package", "ONNX $package$ <&>", Cost(12_000_000, 900, 2, FILES), Cost(0, 13_000, 1, MEASURED), ""),
    )
    return Ledger("tiny $x^", ("digits",), {"weights": 1}, lines)


def test_a_png_is_drawn_whole(ledger, tmp_path):
    draw_ledger(ledger, tmp_path / "ledger.png", (1, 10, 100))
    pixels = np.asarray(Image.open(tmp_path / "ledger.png").convert("RGB"))
    assert pixels.shape[1] > 1000
    assert (pixels.max(axis=2).astype(int) - pixels.min(axis=2) > 60).sum() > 500
    assert [path.name for path in tmp_path.iterdir()] == ["ledger.png"]


def test_an_svg_is_drawn_and_names_every_strategy(ledger, tmp_path):
    draw_ledger(ledger, tmp_path / "ledger.SVG", (1, 10))
    text = (tmp_path / "ledger.SVG").read_text("utf-8")
    assert text.rstrip().endswith("</svg>")
    assert "<!-- ONNX $package$ &lt;&amp;&gt; -->" in text
    assert "<!-- full models * -->" in text


def test_the_same_ledger_has_the_same_bytes_whatever_the_reader_has_set(ledger, tmp_path):
    draw_ledger(ledger, tmp_path / "a.svg")
    with rc_context({"axes.facecolor": "red", "font.size": 40, "svg.fonttype": "none", "svg.hashsalt": None}):
        draw_ledger(ledger, tmp_path / "b.svg")
        draw_ledger(ledger, tmp_path / "b.png")
    draw_ledger(ledger, tmp_path / "a.png")
    for ending in (".svg", ".png"):
        assert (tmp_path / f"a{ending}").read_bytes() == (tmp_path / f"b{ending}").read_bytes()


@pytest.mark.parametrize("name", ["🙂 אבג", "a\x00\x1b\ud800\ufffe b", "\\frac{$", "x" * 300], ids=ascii)
def test_whatever_a_backbone_is_called_the_picture_is_whole(ledger, tmp_path, name, recwarn):
    draw_ledger(replace(ledger, backbone=name), tmp_path / "a.svg")
    root = ET.parse(tmp_path / "a.svg").getroot()  # noqa: S314  (written a moment ago)
    assert root.tag.endswith("}svg")
    assert [str(it.message) for it in recwarn if "Glyph" in str(it.message)] == []


@pytest.mark.parametrize("counts", [(1,), (1, 2), (1, 10, 100), (7, 123_456)])
def test_lines_go_through_every_count_and_begin_with_one_task(counts):
    numbers = growing_numbers(counts)
    assert set(counts) <= set(numbers)
    assert numbers == sorted(set(numbers))
    assert (numbers[0], numbers[-1]) == (1, max([2, *counts]))


def test_each_panel_has_one_basis(ledger):
    measured = Line("probes", "probes", Cost(1, 2, 1, COMPUTED), Cost(9, 2, 1, MEASURED), "", Cost(5, 2, 1, ESTIMATE))
    found = panels(replace(ledger, lines=(*ledger.lines, measured)))
    assert [(panel.name, [index for index, _ in panel.costs]) for panel in found] == [
        ("storage", [0, 1, 2]),
        ("memory-measured", [1, 2]),
        ("memory-estimate", [0, 2]),
    ]
    for panel in found[1:]:
        assert {cost.basis for _, cost in panel.costs} == {panel.name.removeprefix("memory-")}
    only = [panel.name for panel in panels(replace(ledger, lines=ledger.lines[:1]))]
    assert only == ["storage", "memory-estimate"]


def test_the_picture_says_what_a_panel_stands_on(ledger, tmp_path):
    draw_ledger(ledger, tmp_path / "ledger.svg")
    text = (tmp_path / "ledger.svg").read_text("utf-8")
    for words in ("Memory, measured", "Memory, estimated", "further ones added", "weights alone"):
        assert words in text


@pytest.mark.parametrize("place", ["folder.png", "file/ledger.png", "/proc/ledger.png"])
def test_a_place_that_cannot_be_written_is_refused(tmp_path, place):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match="Choose another"):
        check_picture(tmp_path / place)


def test_more_of_a_strategy_is_drawn_higher(ledger, tmp_path):
    draw_ledger(ledger, tmp_path / "a.png")
    lines = list(ledger.lines)
    lines[1] = replace(lines[1], storage=Cost(900_000_000, 900, 2, FILES))
    draw_ledger(replace(ledger, lines=tuple(lines)), tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "b.png").read_bytes()


def test_another_ending_or_count_is_refused(ledger, tmp_path):
    with pytest.raises(ConfigError, match=r"\.png or \.svg"):
        draw_ledger(ledger, tmp_path / "ledger.pdf")
    with pytest.raises(ConfigError, match="at least 1"):
        draw_ledger(ledger, tmp_path / "ledger.png", (0,))
    assert list(tmp_path.iterdir()) == []


def test_without_matplotlib_the_part_to_install_is_named(ledger, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MimiEdgeError, match=r"\[report\]"):
        draw_ledger(ledger, tmp_path / "ledger.png")
    assert list(tmp_path.iterdir()) == []
