"""The report as one page that needs nothing but itself: no script, no font, no picture from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from mimi_edge.charts.style import why_no_charts
from mimi_edge.profiles.ledger import Ledger, ledger_from_document
from mimi_edge.profiles.rendering.charts import Chart, ledger_charts, report_charts
from mimi_edge.profiles.rendering.inline import shown
from mimi_edge.profiles.rendering.markup import Markup, element, joined, name_of, text
from mimi_edge.profiles.rendering.styles import style_sheet
from mimi_edge.profiles.rendering.table import Table
from mimi_edge.profiles.rendering.tables import environment_table, ledger_tables, report_tables
from mimi_edge.profiles.reports import Report

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""Even if something slipped through, the page fetches nothing and runs nothing."""
LONG_CELL = 32


def html_page(report: Report) -> str:
    """The page of a report."""
    ledger = None if report.ledger is None else ledger_from_document(report.ledger)
    why_not = why_no_charts()
    body = element(
        "main",
        _heading(report),
        _marks(report),
        _charts(report) if why_not is None else _no_charts(why_not),
        _section("Measurements", (), report_tables(report)),
        Markup() if ledger is None else _ledger(ledger, drawn=why_not is None),
        _section("Where it was measured", (), [environment_table(report)]),
    )
    return document(f"mimi-edge report, {report.made}", body)


def document(title: str, body: Markup) -> str:
    """A whole page."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("title", title),
        element("style", Markup(style_sheet())),
    )
    return f"<!DOCTYPE html>\n{element('html', head, element('body', body), lang='en')}\n"


def table_markup(table: Table, identity: str) -> Markup:
    """A table that scrolls inside itself where the screen is narrow."""
    note = element("p", table.note, class_="soft") if table.note else Markup()
    figures = table.figures
    columns = (
        element("th", name_of(column), scope="col", class_="figure" if is_figure else None)
        for column, is_figure in zip(table.columns, figures, strict=True)
    )
    rows = element("tbody", *(_row(cells, figures) for cells in table.rows))
    inner = element("table", element("thead", element("tr", *columns)), rows, aria_labelledby=identity)
    scroll = element("div", inner, class_="scroll", role="region", aria_labelledby=identity, tabindex=0)
    return joined(element("h3", table.title, id=identity), note, scroll)


def _row(cells: Sequence[str], figures: Sequence[bool]) -> Markup:
    kinds = ["figure" if is_figure else _kind(cell) for cell, is_figure in zip(cells, figures, strict=True)]
    others = (element("td", name_of(cell), class_=kind) for cell, kind in list(zip(cells, kinds, strict=True))[1:])
    return element("tr", element("th", name_of(cells[0]), scope="row", class_=_kind(cells[0])), *others)


def _kind(cell: str) -> str | None:
    """What is short stays on one line, for a table can scroll."""
    return "long" if len(cell) > LONG_CELL else None


def _heading(report: Report) -> Markup:
    environment = report.environment
    gpu = str((environment.gpu or {}).get("name") or "")
    machine = [part for part in (gpu, environment.cpu, environment.system) if part]
    told = f"{len(report.artefacts)} artefacts, batches {', '.join(map(str, report.batches)) or 'none'}"
    lines = [*_subjects(report), text(told), joined(*_between(machine)), text(f"Made {report.made}")]
    parted = [part for line in lines for part in (element("br"), line)][1:]
    return joined(element("h1", "What it costs, measured"), element("p", *parted, class_="soft"))


def _subjects(report: Report) -> list[Markup]:
    """Which backbones, and where what was measured lies; empty for reports that do not know."""
    named = (("Backbone ", report.backbones), ("From ", report.origins))
    return [joined(element("strong", words), *_between(names)) for words, names in named if names]


def _between(parts: Sequence[str]) -> list[Markup]:
    """Names with a dot between them."""
    return [joined(name_of(part), " · " if index < len(parts) - 1 else "") for index, part in enumerate(parts)]


def _marks(report: Report) -> Markup:
    """What makes the measurement doubtful comes before the figures."""
    sentences = [*report.environment.marks, *(f"{one.name} could not be measured whole." for one in report.failed)]
    if not sentences:
        return Markup()
    items = element("ul", *(element("li", name_of(sentence)) for sentence in sentences))
    return element("section", element("h2", "Read with care"), items, class_="marks")


def _charts(report: Report) -> Markup:
    return _section("Charts", report_charts(report), ())


def _no_charts(why_not: str) -> Markup:
    return element("section", element("h2", "Charts"), element("p", f"There are none here. {why_not}"))


def _ledger(ledger: Ledger, *, drawn: bool) -> Markup:
    return _section("Fleet ledger: what N tasks take", ledger_charts(ledger) if drawn else (), ledger_tables(ledger))


def _section(title: str, charts: Sequence[Chart], tables: Sequence[Table]) -> Markup:
    if not charts and not tables:
        return Markup()
    slug = "".join(letter if letter.isalnum() else "-" for letter in title.lower())
    drawn = element("div", *map(shown, charts), class_="charts") if charts else Markup()
    written = (table_markup(table, f"{slug}-{index}") for index, table in enumerate(tables))
    return element("section", element("h2", title), drawn, *written)
