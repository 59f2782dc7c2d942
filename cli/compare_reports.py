"""`mimi-edge compare-reports`: what changed from one report to another, and a gate for CI."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mimi_edge.cli.options import AsJson
from mimi_edge.cli.output import document_or, explained, say, show_table
from mimi_edge.errors import GateError

if TYPE_CHECKING:
    from mimi_edge.profiles.gates import Verdict
    from mimi_edge.profiles.report_comparison import Comparison


@explained
def command(
    a: Annotated[Path, typer.Argument(help="A report of mimi-edge profile, as JSON.", show_default=False)],
    b: Annotated[Path, typer.Argument(help="The report to hold against it.", show_default=False)],
    force: Annotated[bool, typer.Option("--force", help="Compare although conditions differ.")] = False,
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            help="End with exit code 6 if so, such as 'latency_p50>1.05'; may be repeated. Ratios of B to A of "
            "latency_p50, latency_p90, latency_p99, latency_mean, joules, memory, storage; accuracy_drop is A - B.",
            show_default=False,
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="A figure beyond a limit breaks it even if its interval is not beyond.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare two reports taken under the same conditions: ratios of B to A with intervals, and limits on them."""
    from mimi_edge.profiles.gates import judge, parsed_limits, verdict_document
    from mimi_edge.profiles.report_comparison import compare, comparison_document, read_report

    limits = parsed_limits(fail_if or [])
    comparison = compare(read_report(a), read_report(b), force=force)
    verdicts = judge(comparison, limits, strict=strict)
    document = comparison_document(comparison) | {"gates": [verdict_document(verdict) for verdict in verdicts]}
    document_or(as_json, document, lambda: _show(comparison, verdicts))
    if broken := [verdict for verdict in verdicts if verdict.broken]:
        listed = "\n".join(f"  - {verdict.limit}: {'; '.join(verdict.broken)}" for verdict in broken)
        raise GateError(f"Changed more than allowed:\n{listed}\nFind out why, or allow it with another --fail-if.")


def _show(comparison: Comparison, verdicts: Sequence[Verdict]) -> None:
    from mimi_edge.profiles.rendering.changes import changes_tables, conditions_table, verdicts_table

    for words in (*comparison.warnings, *comparison.failed):
        say(words)
    if comparison.differences:
        say("The conditions differ, so the ratios do not tell what changed.")
        show_table(conditions_table(comparison))
    for side, names in (("A", comparison.only_a), ("B", comparison.only_b)):
        if names:
            say(f"Only in {side}: {', '.join(names)}.")
    for table in changes_tables(comparison):
        show_table(table)
    if verdicts:
        show_table(verdicts_table(verdicts))
