"""The same tables on a terminal, in Markdown and on the page."""

import re
from dataclasses import replace
from html import unescape

import pytest
from report_samples import make_energy, make_environment, make_estimate, make_report

from mimi_edge.cli.measured import show_report
from mimi_edge.cli.output import show_table
from mimi_edge.profiles.rendering.changes import changes_tables
from mimi_edge.profiles.rendering.html_page import html_page
from mimi_edge.profiles.rendering.markdown import table_text
from mimi_edge.profiles.rendering.table import Table
from mimi_edge.profiles.rendering.tables import artefacts_table, latency_table, report_tables
from mimi_edge.profiles.report_comparison import compare

TABLE = Table(
    "Some", ("name", "size", "why", "n"), (("a", "1.50", "yes", ""), ("b", "", "too busy", "12 of 3")), "Mind."
)


@pytest.fixture
def report():
    made = make_report(tasks=("a-task-of-16-lett", "fashion"), batches=(1, 128), environment=make_environment())
    return replace(
        made,
        artefacts=tuple(
            replace(
                one,
                backend="trt-rtx",
                measurements=tuple(
                    replace(it, energy=make_energy(), estimate=make_estimate(it.batch)) for it in one.measurements
                ),
            )
            for one in made.artefacts
        ),
    )


@pytest.fixture
def on_a_terminal(monkeypatch, capsys):
    """Lines that are shown where a terminal has so many columns."""

    def lines(columns, show):
        for name, value in {"COLUMNS": str(columns), "FORCE_COLOR": "1"}.items():
            monkeypatch.setenv(name, value)
        show()
        return re.sub("\x1b\\[[0-9;]*m", "", capsys.readouterr().out).splitlines()

    return lines


def cells_of(lines):
    return {tuple(re.split(r"\s{2,}", line.strip())) for line in lines}


def test_some_columns_of_a_table():
    some = TABLE.only(("why", "name"), title="Few")
    assert some == Table("Few", ("why", "name"), (("yes", "a"), ("too busy", "b")))
    assert TABLE.only(("name",), title="", filled="n").rows == (("b",),)
    assert TABLE.column("size") == ["1.50", ""]


def test_figures_stand_to_the_right_and_words_to_the_left(on_a_terminal):
    assert TABLE.figures == (False, True, False, True)
    lines = on_a_terminal(100, lambda: show_table(TABLE))
    heading, first, second = (next(line for line in lines if word in line) for word in ("name", "yes", "busy"))
    assert heading.index("size") + 4 == first.index("1.50") + 4
    assert heading.index("why") == first.index("yes") == second.index("too busy")
    assert heading.rstrip().endswith("n")
    assert len(heading.rstrip()) == len(second.rstrip())


def test_a_name_is_broken_before_a_figure_is_cut_off(on_a_terminal):
    figures = tuple(f"{number}12.345" for number in range(1, 8))
    table = Table("Wide", ("name", *map(str, range(7))), (("sixteen-letters-", *figures),))
    lines = on_a_terminal(80, lambda: show_table(table))
    assert max(map(len, lines)) <= 80
    assert any(all(figure in line for figure in figures) for line in lines)


def test_an_empty_table_is_one(on_a_terminal):
    assert any("why" in line for line in on_a_terminal(80, lambda: show_table(replace(TABLE, rows=()))))


def test_what_is_to_know_of_a_table_is_talk(capsys):
    show_table(TABLE)
    said = capsys.readouterr()
    assert "Mind." in said.err
    assert "Mind." not in said.out


def test_terminal_markdown_and_page_say_the_same(report, on_a_terminal):
    page = unescape(re.sub("<[^>]*>", "\x00", html_page(report)))
    for table in report_tables(report):
        shown = cells_of(on_a_terminal(400, lambda table=table: show_table(table)))
        written = table_text(table).replace("\\", "")
        for row in table.rows:
            assert tuple(filter(None, row)) in shown
            assert f"| {' | '.join(row)} |" in written
            assert all(cell in page for cell in row)


def test_profile_prints_what_its_report_says_in_80_columns(report, on_a_terminal):
    lines = on_a_terminal(80, lambda: show_report(report, []))
    assert max(map(len, lines)) <= 80
    shown = cells_of(lines)
    for row in latency_table(report).rows:
        assert (row[0], *row[1:5], *row[7:9]) in shown
    for name, *_, accuracy, _, _, host, _gpu in artefacts_table(report).rows:
        assert any(row[0] == name and host in row and accuracy in {"", *row} for row in shown)
    assert "bare backbone" in " ".join(lines)


def test_an_artefact_is_compared_with_its_own_reference(report):
    backbone, *tasks = report.artefacts
    other = replace(backbone, name="other")
    against = [replace(it, ratio=replace(it.ratio, to="other")) for it in tasks[1].measurements]
    artefacts = (backbone, other, tasks[0], replace(tasks[1], measurements=tuple(against)))
    table = latency_table(replace(report, artefacts=artefacts))
    found = dict(zip(table.column("artefact"), table.column("ratio to"), strict=True))
    assert (found["a-task-of-16-lett"], found["fashion"], found["other"]) == ("bare backbone", "other", "")


def test_a_change_without_an_interval_is_shown_without_one(report):
    found = compare(report, report)
    bare = replace(found, changes=tuple(replace(one, low=None, high=None) for one in found.changes))
    assert {cell for row in changes_tables(bare)[0].rows for cell in row[2:]} == {"1.000"}


def test_bytes_of_any_size_are_whole(report):
    found = compare(report, report)
    [storage, *_] = [one for one in found.changes if one.metric == "storage"]
    table = changes_tables(replace(found, changes=(replace(storage, a=12_345_678_901, b=7),)))[0]
    assert table.rows[0][2:4] == ("12,345,678,901", "7")
