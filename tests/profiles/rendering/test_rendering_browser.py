"""The page as a browser shows it: on a phone and on a desktop, light and dark.

Skipped where no Chromium is found; `apt install chromium` or CHROME_BIN=/path/to/chrome brings it back.
"""

import json
import re
from html import unescape

import numpy as np
import pytest
from PIL import Image, ImageColor

from mimi_edge.charts.style import INK, PAPER, SERIES, SOFT
from mimi_edge.profiles.rendering.formats import write_report
from mimi_edge.profiles.rendering.styles import DARK, DARK_SERIES, LIGHT

HEIGHT = 1600
SCHEMES = {"light": LIGHT, "dark": DARK}
LINES = {"light": SERIES, "dark": DARK_SERIES}
IN = {
    "light": ["--blink-settings=preferredColorScheme=1"],
    "dark": ["--blink-settings=preferredColorScheme=0"],
}
PROBE = """
<script>
const box = element => element.getBoundingClientRect();
const all = selector => [...document.querySelectorAll(selector)];
const colour = element => [getComputedStyle(element).color, getComputedStyle(element).backgroundColor];
const seen = {
  width: innerWidth,
  dark: matchMedia("(prefers-color-scheme: dark)").matches,
  page: document.documentElement.scrollWidth,
  body: colour(document.body),
  outside: all("main > *, figure, .scroll, h1, h2, h3, p").filter(it => box(it).right > innerWidth + 1).length,
  empty: all("h1, h2, h3, th, figcaption, figure > svg, tbody tr").filter(it => box(it).height < 8).length,
  scrolling: all(".scroll").filter(it => it.scrollWidth > it.clientWidth).length,
  tables: all(".scroll").length,
  charts: all("figure > svg").map(it => [box(it).width, box(it).height]),
  lines: all("figure > svg")[0] && [...all("figure > svg")[0].querySelectorAll("g > title + path")].map(
    it => getComputedStyle(it).stroke),
  keys: [...all("figure")[0].querySelectorAll(".swatch path")].map(
    it => getComputedStyle(it).stroke).filter(it => it != "none"),
  words: [...new Set(all("figure > svg text").map(it => getComputedStyle(it).fill))],
  text: Math.min(...all("figure > svg text").map(it => box(it).height)),
  cut: all("figure > svg").filter(it => [...it.querySelectorAll("text")].some(text =>
    box(text).left < box(it).left - 1 || box(text).right > box(it).right + 1 || box(text).bottom > box(it).bottom + 1
  )).length,
  overlapping: all("figure > svg").filter(it => {
    const boxes = [...it.querySelectorAll("text")].map(box);
    return boxes.some((one, index) => boxes.slice(index + 1).some(other =>
      one.left < other.right - 1 && other.left < one.right - 1
      && one.top < other.bottom - 1 && other.top < one.bottom - 1
    ));
  }).length,
};
parent.postMessage(JSON.stringify(seen), "*");
</script>
"""
"""Only in a copy of the page: the page itself forbids scripts."""

HOLDER = """<!DOCTYPE html>
<meta name="color-scheme" content="light dark">
<body style="margin: 0"><script>
onmessage = event => {
  document.body.innerHTML = "<pre></pre>";
  document.querySelector("pre").textContent = event.data;
};
</script><iframe src="probed.html" style="border: 0" width="WIDTH" height="HEIGHT"></iframe>
"""
"""Chromium's window cannot be as narrow as a phone; a frame in it can."""


@pytest.fixture(scope="module")
def pages(full_report, tmp_path_factory):
    """The page, and a copy that tells how it is laid out."""
    folder = tmp_path_factory.mktemp("pages")
    page, probed = folder / "report.html", folder / "probed.html"
    write_report(full_report, page)
    text = page.read_text("utf-8")
    without_policy = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    assert without_policy != text
    probed.write_text(without_policy.replace("</body>", PROBE + "</body>"), "utf-8")
    return page, probed


def laid_out(browser, probed, width, scheme):
    holder = probed.with_name(f"holder-{width}.html")
    holder.write_text(HOLDER.replace("WIDTH", str(width)).replace("HEIGHT", str(HEIGHT)))
    options = (f"--window-size={width + 200},{HEIGHT}", "--virtual-time-budget=5000", "--dump-dom")
    said = browser(holder, *IN[scheme], *options).stdout.decode()
    return json.loads(unescape(re.search("<pre>(.*)</pre>", said)[1]))


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_and_follows_the_readers_scheme(browser, pages, width, scheme):
    seen = laid_out(browser, pages[1], width, scheme)
    assert seen["width"] == width
    assert seen["dark"] == (scheme == "dark")
    assert seen["page"] <= width, "the page scrolls sideways"
    assert seen["outside"] == 0
    assert seen["empty"] == 0
    assert seen["cut"] == 0, "text of a chart is outside of it"
    assert seen["overlapping"] == 0, "texts of a chart lie on one another"
    colours = [f"rgb{ImageColor.getrgb(SCHEMES[scheme][name])}" for name in (INK, PAPER)]
    assert seen["body"] == colours
    lines = [f"rgb{ImageColor.getrgb(colour)}" for colour in LINES[scheme]]
    assert seen["lines"] == seen["keys"] == lines[: len(seen["lines"])]
    assert len(seen["lines"]) > 5
    assert f"rgb{ImageColor.getrgb(SCHEMES[scheme][SOFT])}" in seen["words"]
    assert "rgb(0, 0, 0)" not in seen["words"]
    assert all(wide > 300 and high > 150 for wide, high in seen["charts"])
    assert seen["text"] >= 8
    if width == 390:
        assert 0 < seen["scrolling"] <= seen["tables"]
        assert all(wide < width for wide, _ in seen["charts"])


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", [390, 1280])
def test_the_real_page_is_painted(browser, pages, tmp_path, width, scheme):
    picture = tmp_path / "page.png"
    browser(pages[0], *IN[scheme], f"--window-size={width},{HEIGHT}", f"--screenshot={picture}")
    pixels = np.asarray(Image.open(picture).convert("RGB"))
    assert pixels.shape[1] == width
    paper, ink = (np.array(ImageColor.getrgb(SCHEMES[scheme][name])) for name in (PAPER, INK))
    assert (pixels[2, 2] == paper).all()
    is_paper, is_ink = ((pixels == colour).all(axis=2) for colour in (paper, ink))
    assert 0.5 < is_paper.mean() < 0.99
    assert is_ink.sum() > 300, "no text is to be seen"
    colourful = pixels.max(axis=2).astype(int) - pixels.min(axis=2) > 60
    assert colourful.sum() > 300, "no line of a chart is to be seen"
