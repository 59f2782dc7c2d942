"""The report as Markdown with tables, for a pull request or a wiki."""

from __future__ import annotations

import re

from mimi_edge.profiles.ledger import ledger_from_document
from mimi_edge.profiles.rendering.markup import plain
from mimi_edge.profiles.rendering.table import Table
from mimi_edge.profiles.rendering.tables import environment_table, ledger_tables, report_tables
from mimi_edge.profiles.reports import Report

_SPECIAL = re.compile(r"([\\`*_{}\[\]#|~<>&@]|:(?=//))")


def markdown(report: Report) -> str:
    """The report's tables, each under its heading."""
    ledger = [] if report.ledger is None else ledger_tables(ledger_from_document(report.ledger))
    tables = [*report_tables(report), *ledger, environment_table(report)]
    marks = [f"- {escaped(sentence)}" for sentence in report.environment.marks]
    head = ["# mimi-edge report", "", f"Made {escaped(report.made)}.{_subjects(report)}", ""]
    if marks:
        head += ["Read with care:", "", *marks, ""]
    return "\n".join([*head, *(table_text(table) for table in tables)])


def _subjects(report: Report) -> str:
    named = (("Backbone", report.backbones), ("From", report.origins))
    return "".join(f" {words} {', '.join(map(escaped, names))}." for words, names in named if names)


def table_text(table: Table) -> str:
    """One table; columns of figures are aligned to the right."""
    rule = [" ---: " if right else " --- " for right in table.figures]
    lines = [f"## {escaped(table.title)}", ""]
    if table.note:
        lines += [escaped(table.note), ""]
    lines += [_row(table.columns), f"|{'|'.join(rule)}|", *map(_row, table.rows), ""]
    return "\n".join(lines)


def escaped(text: str) -> str:
    """Text that means nothing to Markdown or HTML, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(plain(text).split()))


def _row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(map(escaped, cells))} |"
