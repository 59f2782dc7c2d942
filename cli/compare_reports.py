"""`mimi-edge compare-reports`: what changed from one report to another, and a gate for CI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mimi_edge.cli.options import AsJson
from mimi_edge.cli.output import document_or, explained, say, show_facts, show_table
from mimi_edge.errors import GateError

if TYPE_CHECKING:
    from mimi_edge.profiles.gates import Verdict
    from mimi_edge.profiles.report_comparison import Change, Comparison

LATENCIES = ("latency_p50", "latency_p90", "latency_p99", "latency_mean")
HEADINGS = ("p50", "p90", "p99", "mean")


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
    from mimi_edge.profiles.report_comparison import changes_by_place

    for words in (*comparison.warnings, *comparison.failed):
        say(words)
    if comparison.differences:
        rows = [(found.condition, found.a, found.b) for found in comparison.differences]
        say("The conditions differ, so the ratios do not tell what changed.")
        show_table("Conditions", ("condition", "A", "B"), rows)
    for side, names in (("A", comparison.only_a), ("B", comparison.only_b)):
        if names:
            say(f"Only in {side}: {', '.join(names)}.")
    places = changes_by_place(comparison.changes).values()
    _show_latencies([found for found in places if LATENCIES[0] in found])
    _show_others(comparison.changes)
    if verdicts:
        show_facts("Limits", {verdict.limit: _in_words(verdict) for verdict in verdicts})


def _show_latencies(places: Sequence[Mapping[str, Change]]) -> None:
    if places:
        rows = [
            (found[LATENCIES[0]].artefact, found[LATENCIES[0]].batch, *(_ratio(found[metric]) for metric in LATENCIES))
            for found in places
        ]
        show_table("Latency: B / A, with 95 % intervals", ("artefact", "batch", *HEADINGS), rows)


def _show_others(changes: Sequence[Change]) -> None:
    rows = [
        (change.where, change.metric.replace("_", " "), _figure(change.a), _figure(change.b), f"{change.value:.4g}")
        for change in changes
        if change.metric not in LATENCIES
    ]
    if rows:
        title = "Everything else: B / A; accuracy drop: A - B; bytes, joules an image, shares"
        show_table(title, ("artefact", "figure", "A", "B", "change"), rows)


def _figure(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def _ratio(change: Change) -> str:
    return f"{change.value:.3f} ({change.low:.3f} to {change.high:.3f})"


def _in_words(verdict: Verdict) -> str:
    if verdict.broken:
        return f"broken: {'; '.join(verdict.broken)}"
    if verdict.unsure:
        return f"holds; the samples do not tell for {'; '.join(verdict.unsure)}. Measure more --rounds"
    return f"holds for all {verdict.judged}"
