"""What changed from one report to another, as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mimi_edge.profiles.gates import Verdict
from mimi_edge.profiles.rendering.readable import figure, ratio
from mimi_edge.profiles.rendering.table import Table
from mimi_edge.profiles.report_comparison import MEAN, PERCENTILES, Change, Comparison, changes_by_place

LATENCIES = (*PERCENTILES, MEAN)
HEADINGS = ("p50", "p90", "p99", "mean")


def conditions_table(comparison: Comparison) -> Table:
    """What was not the same when they were taken."""
    rows = tuple((found.condition, found.a, found.b) for found in comparison.differences)
    return Table("Conditions", ("condition", "A", "B"), rows)


def changes_tables(comparison: Comparison) -> list[Table]:
    """Latencies, then everything else; those that have rows."""
    return [table for table in (_latencies(comparison.changes), _others(comparison.changes)) if table.rows]


def verdicts_table(verdicts: Sequence[Verdict]) -> Table:
    """Which limits hold."""
    return Table("Limits", ("limit", "verdict"), tuple((str(found.limit), _in_words(found)) for found in verdicts))


def _latencies(changes: Sequence[Change]) -> Table:
    places = [found for found in changes_by_place(changes).values() if LATENCIES[0] in found]
    rows = tuple(_latency_row(found) for found in places)
    return Table("Latency: B / A, with 95 % intervals", ("artefact", "batch", *HEADINGS), rows)


def _latency_row(found: Mapping[str, Change]) -> tuple[str, ...]:
    first = found[LATENCIES[0]]
    return (first.artefact, str(first.batch), *(_ratio(found[metric]) for metric in LATENCIES))


def _others(changes: Sequence[Change]) -> Table:
    rows = tuple(
        (change.where, change.metric.replace("_", " "), figure(change.a), figure(change.b), f"{change.value:.4g}")
        for change in changes
        if change.metric not in LATENCIES
    )
    title = "Everything else: B / A; accuracy drop: A - B; bytes, joules an image, shares"
    return Table(title, ("artefact", "figure", "A", "B", "change"), rows)


def _ratio(change: Change) -> str:
    if change.low is None or change.high is None:
        return f"{change.value:.3f}"
    return ratio(change.value, change.low, change.high)


def _in_words(verdict: Verdict) -> str:
    if verdict.broken:
        return f"broken: {'; '.join(verdict.broken)}"
    if verdict.unsure:
        return f"holds; the samples do not tell for {'; '.join(verdict.unsure)}. Measure more --rounds"
    return f"holds for all {verdict.judged}"
