"""The page as text: whole, closed, escaped, and in need of nothing else."""

import re
import sys
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from matplotlib import rc_context
from rendering_samples import HOSTILE
from report_samples import SITES, make_backbone, make_report

from mimi_edge.charts.style import INK, PAPER, SERIES, SOFT, house_style
from mimi_edge.parts import REPORT, install_line
from mimi_edge.profiles.rendering.charts import accuracy_chart, wilson
from mimi_edge.profiles.rendering.html_page import html_page
from mimi_edge.profiles.rendering.styles import DARK, DARK_SERIES, LIGHT, MARK
from mimi_edge.profiles.reports import MeasuredAccuracy

VOID = {"meta", "br"}


class Page(HTMLParser):
    """Elements, texts and whether all is closed in the right order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.texts, self.faults = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if len(dict(attrs)) < len(attrs):
            self.faults.append(f"{tag} has an attribute twice")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> out of order")

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))

    def of(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def words(self):
        return " ".join(text for tag, text in self.texts if tag != "style")


@pytest.fixture(scope="module")
def page(full_report):
    return Page(html_page(full_report))


def test_the_page_names_backbone_and_package():
    page = html_page(make_report())
    assert "tiny_backbone_32" in page[: page.index("Made ")]
    assert "<bdi>package</bdi>" in page[: page.index("Made ")]


def test_every_element_is_closed_in_order_and_identities_are_unique(page):
    assert page.faults == []
    assert page.open == []
    identities = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(set(identities)) == len(identities) > 10
    for _, attributes in page.elements:
        assert set((attributes.get("aria-labelledby") or "").split()) <= set(identities)


def test_nothing_is_fetched_and_nothing_runs(page, full_report):
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "link", "img", "iframe", "object", "embed", "form", "input", "a", "image"}
    identities = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name in ("src", "srcset", "xlink:href")]
        assert ("href" in attributes) == (tag == "use")
        assert attributes.get("href", "#")[:1] == "#"
    text = html_page(full_report)
    referred = set(re.findall(r"url\(#([^)]*)\)", text)) | {it["href"][1:] for it in page.of("use")}
    assert text.count("url(") == text.count("url(#")
    assert len(referred) > 10
    assert referred <= identities
    assert "@import" not in text
    [policy] = [it["content"] for it in page.of("meta") if it.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")


def test_charts_bring_no_style_for_the_whole_page_and_no_colour_of_their_own(page, full_report):
    assert len(page.of("style")) == 1
    body = html_page(full_report).partition("<body>")[2]
    assert not re.search('#[0-9a-fA-F]{3,8}[;"]|rgb|font-family', body)
    used = set(re.findall(r"var\(--(\w+)\)", body))
    assert {"ink", "soft", "rule", "paper", "s0", "s1"} <= used
    for scheme in re.findall(r":root \{ ([^}]*)\}", html_page(full_report)):
        assert used <= set(re.findall(r"--(\w+):", scheme))


def test_the_same_report_has_the_same_bytes_whatever_the_reader_of_matplotlib_has_set(full_report):
    text = html_page(full_report)
    with rc_context({"axes.facecolor": "red", "lines.linewidth": 9, "font.size": 40, "text.parse_math": True}):
        assert html_page(full_report) == text


def test_what_a_chart_draws_says_its_name_when_pointed_at(page):
    tips = [text for tag, text in page.texts if tag == "title"]
    assert set(HOSTILE) <= set(tips)
    assert {f"{site}: {count}" for site, count in zip(SITES, (3, 0, 2, 1), strict=True)} <= set(tips)


def test_names_that_matplotlib_would_read_are_names(full_report):
    names = ("$x^2$", r"\frac{$", "_hidden", "tip: b", "url(#a)", "#0b5cad", "a\ufffeb", "</svg>")
    page = Page(html_page(make_report(tasks=names)))
    assert page.faults == []
    legend = [text for tag, text in page.texts if tag == "bdi"]
    for name in (name.replace("\ufffe", r"\ufffe") for name in names):
        assert legend.count(name) > 3
        assert name in [text for tag, text in page.texts if tag == "title"]


def test_without_matplotlib_the_page_is_whole_but_for_its_pictures(full_report, page, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    without = Page(html_page(full_report))
    assert without.faults == []
    assert without.of("svg") == without.of("figure") == []
    assert len(without.of("table")) == len(page.of("table"))
    [said] = [text for tag, text in without.texts if tag == "p" and "matplotlib" in text]
    assert install_line(REPORT) in said


def test_names_are_shown_as_they_are_and_mean_nothing(page):
    for name in HOSTILE:
        assert name in page.words
    assert "tiny <b>" in page.words
    assert "Another process <was> on the GPU." in page.words


def test_control_characters_and_halves_of_pairs_are_made_visible():
    text = html_page(make_report(artefacts=(make_backbone(name="a\x00\x1b[31m\x85\ud800b"),)))
    assert "a\\x00\\x1b[31m\\x85\\ud800b" in text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", text)
    text.encode("utf-8")


def test_tables_have_headings_and_scroll_inside_themselves(page):
    tables = page.of("table")
    assert len(tables) >= 12
    scrolls = [it for it in page.of("div") if it.get("class") == "scroll"]
    assert len(scrolls) == len(tables)
    assert all(it["tabindex"] == "0" and it["role"] == "region" and it["aria-labelledby"] for it in scrolls)
    assert {it.get("scope") for it in page.of("th")} == {"col", "row"}


def test_charts_have_titles_and_descriptions(page):
    drawings = [it for it in page.of("svg") if it.get("role") == "img"]
    assert len(drawings) == len(page.of("figure")) >= 10
    assert all(len(it["aria-labelledby"].split()) == 2 for it in drawings)
    assert all(it.get("role") == "img" or it.get("aria-hidden") == "true" for it in page.of("svg"))


def test_the_figures_are_there_without_a_script(page, full_report):
    digits = full_report.artefact("digits")
    for batch in (1, 8):
        summary = digits.at(batch).summary
        for value in (summary.p50_ms, summary.p90_ms, summary.p99_ms, summary.mean_ms, summary.max_ms):
            assert f"{value:.3f}" in page.words
    assert all(site in page.words for site in SITES)
    assert "110,000,000" in page.words
    assert {"90.00%", "1,000 (test)"} <= {text for _, text in page.texts}
    assert "Killed: out of memory?" in page.words
    assert full_report.environment.cpu in page.words
    assert "570.10" in page.words


def test_doubts_come_before_figures(full_report):
    text = html_page(full_report)
    assert text.index("Read with care") < text.index("<figure")
    assert "Read with care" not in html_page(make_report())


def test_a_report_of_nothing_but_a_failure_is_a_page(full_report):
    only = make_report(artefacts=(full_report.failed[0],), storage=None)
    page = Page(html_page(only))
    assert page.faults == []
    assert "Killed" in page.words
    assert page.of("figure") == []


def test_a_report_with_one_sample_and_equal_sizes_is_drawn():
    """Axes of a single value must not divide by nothing."""
    report = make_report(tasks=("one",), batches=(1,))
    one = report.artefacts[1].measurements[0]
    samples = type(one.samples)((10_000_000,), (), True)
    artefacts = tuple(
        type(it)(**{**vars(it), "measurements": (type(one)(1, samples),), "accuracy": MeasuredAccuracy("test", 1, 1)})
        for it in report.artefacts
    )
    page = Page(html_page(make_report(artefacts=artefacts)))
    assert page.faults == []
    assert "nan" not in " ".join(str(attributes) for _, attributes in page.elements)


def test_points_that_would_lie_on_one_another_lie_beside_one_another():
    with house_style():
        chart = accuracy_chart(make_report(tasks=tuple(map(str, range(40)))))
        chart.figure.draw_without_rendering()
    low, high = chart.figure.axes[0].bbox.x0, chart.figure.axes[0].bbox.x1
    places = sorted(one.get_transform().transform(one.get_xydata())[0][0] for one, _ in chart.legend)
    assert len(places) == 40
    assert all(right - left > 3 for left, right in pairwise(places))
    assert low - 1 < places[0] <= places[-1] < high + 1


def luminance(colour):
    parts = (int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5))
    red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(("colours", "series"), [(LIGHT, SERIES), (DARK, DARK_SERIES)], ids=["light", "dark"])
def test_text_and_lines_can_be_told_from_what_is_behind_them(colours, series):
    assert contrast(colours[INK], colours[PAPER]) >= 7
    assert contrast(colours[SOFT], colours[PAPER]) >= 4.5
    assert contrast(colours[INK], colours[MARK]) >= 7
    assert all(contrast(colour, colours[PAPER]) >= 4.5 for colour in series)


@pytest.mark.parametrize(("right", "images"), [(0, 10), (10, 10), (5, 10), (900, 1000)])
def test_intervals_of_shares_hold_the_share_and_stay_between_0_and_1(right, images):
    low, high = wilson(MeasuredAccuracy("test", images, right))
    assert 0 <= low <= right / images <= high <= 1
    assert low < high


def test_an_interval_of_half_right_is_the_one_in_the_books():
    low, high = wilson(MeasuredAccuracy("test", 10, 5))
    assert (low, high) == (pytest.approx(0.2366, abs=1e-3), pytest.approx(0.7634, abs=1e-3))
