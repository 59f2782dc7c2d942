"""What a report and a ledger look like: latencies, accuracy against bytes, neurons, what many tasks take."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mimi_edge.charts.neurons import neurons_on
from mimi_edge.charts.style import Entry, house_style, line, logarithmic, new_figure, points
from mimi_edge.files import MEGABYTE
from mimi_edge.profiles.ledger import DEFAULT_COUNTS, Ledger, Panel, panels
from mimi_edge.profiles.ledger_plot import growth_on
from mimi_edge.profiles.rendering.readable import megabytes, percent
from mimi_edge.profiles.rendering.tables import BACKBONE, called
from mimi_edge.profiles.reports import MeasuredAccuracy, MeasuredArtefact, Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH_INCHES, HEIGHT_INCHES = 4.9, 3.1
DRAWN_SHARE = 0.99
DRAWN_POINTS = 100
NORMAL_QUANTILE_95 = 1.959964
APART = 0.03
"""Of points that would lie on one another, as a share of the axis."""


@dataclass(frozen=True)
class Chart:
    """A chart before it stands in a page.

    Attributes:
        identity: unique in the page.
        title: what it shows.
        description: what one sees in it, for those who do not.
        figure: without title and legend.
        legend: empty where there is nothing to tell apart.
    """

    identity: str
    title: str
    description: str
    figure: Figure
    legend: Sequence[Entry]


def report_charts(report: Report) -> list[Chart]:
    """Those that a report has figures for; without the ledger's.

    Raises:
        MimiEdgeError: matplotlib is not installed.
    """
    with house_style():
        charts = [latency_chart(report, batch) for batch in report.batches]
        if any(artefact.accuracy is not None for artefact in report.artefacts):
            charts.append(accuracy_chart(report))
        return charts + [
            neurons_chart(artefact, f"neurons-{index}")
            for index, artefact in enumerate(report.artefacts)
            if artefact.neurons
        ]


def latency_chart(report: Report, batch: int) -> Chart:
    """Share of the samples below each latency, a line an artefact."""
    from matplotlib.ticker import PercentFormatter

    samples = [
        (called(artefact), np.asarray(found.samples.latency_ns) / 1e6)
        for artefact in report.artefacts
        if (found := artefact.at(batch)) is not None
    ]
    figure, axes = _frame("ms", "share of samples")
    shares = np.linspace(0, DRAWN_SHARE, DRAWN_POINTS)
    legend = [
        line(axes, np.quantile(values, shares).tolist(), shares.tolist(), index, name)
        for index, (name, values) in enumerate(samples)
    ]
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    medians = "; ".join(f"{name}: p50 {np.median(values):.3f} ms" for name, values in samples)
    description = f"Share of samples that took no longer, up to p99. {medians}."
    return Chart(f"latency-{batch}", f"Latency, batch {batch}", description, figure, legend)


def accuracy_chart(report: Report) -> Chart:
    """Top-1 accuracy over the bytes that an artefact needs beyond the bare backbone, with 95 % intervals."""
    from matplotlib.ticker import PercentFormatter

    found = [
        (called(artefact), own_bytes(report, artefact), artefact.accuracy)
        for artefact in report.artefacts
        if artefact.accuracy is not None
    ]
    figure, axes = _frame("MB on top of the backbone's files", "top-1 accuracy")
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    sizes = [max(1, size) / MEGABYTE for _, size, _ in found]
    low, high = logarithmic(axes, "x", sizes)
    places = _apart(sizes, low, high)
    axes.set_xlim(min(low, *places), max(high, *places))
    legend = [
        points(axes, [place], [accuracy.accuracy], [wilson(accuracy)], index, name)
        for index, (place, (name, _, accuracy)) in enumerate(zip(places, found, strict=True))
    ]
    words = "; ".join(f"{name}: {percent(it.accuracy)} with {megabytes(size)} MB" for name, size, it in found)
    description = (
        f"Measured top-1 accuracy with its 95 % interval, over what comes on top of the backbone's files. {words}."
    )
    return Chart("accuracy", "Accuracy against bytes", description, figure, legend)


def own_bytes(report: Report, artefact: MeasuredArtefact) -> int:
    """Of the files that the bare backbone of the report does not need as well; all where there is none."""
    shared = {path for other in report.artefacts if other.kind == BACKBONE for path in other.files}
    return sum(size for path, size in artefact.files.items() if path not in shared)


def wilson(accuracy: MeasuredAccuracy) -> tuple[float, float]:
    """Wilson's 95 % interval of a share: between 0 and 1 even where all or none are right."""
    z, n, share = NORMAL_QUANTILE_95, accuracy.images, accuracy.accuracy
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # Where all or none are right an end is the share itself, but for rounding.
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))


def _apart(values: Sequence[float], low: float, high: float) -> list[float]:
    """Values on a logarithmic axis, with those that are nearly the same moved beside one another."""
    moved: list[float] = []
    least = math.log(high / low) * APART
    for value in map(math.log, values):
        free = (value + sign * step * least for step in range(2 * len(values)) for sign in (1, -1))
        moved.append(next(it for it in free if all(abs(it - other) >= least * 0.999 for other in moved)))
    return [math.exp(value) for value in moved]


def neurons_chart(artefact: MeasuredArtefact, identity: str) -> Chart:
    """A bar a site, in network order; a panel for attention and one for MLP."""
    neurons = artefact.neurons or {}
    figure = new_figure(WIDTH_INCHES, HEIGHT_INCHES)
    legend = neurons_on(figure, [neurons], list(neurons))
    there = sum(map(bool, neurons.values()))
    description = (
        f"{sum(neurons.values())} neurons at {there} of {len(neurons)} sites; "
        f"most at one site: {max(neurons.values(), default=0)}."
    )
    return Chart(identity, f"Neurons per site: {called(artefact)}", description, figure, legend)


def ledger_charts(ledger: Ledger, counts: Sequence[int] = DEFAULT_COUNTS) -> list[Chart]:
    """Storage and memory over the number of tasks, a line a strategy; another basis is another chart.

    Raises:
        MimiEdgeError: matplotlib is not installed.
    """
    with house_style():
        return [_growth(ledger, panel, counts) for panel in panels(ledger)]


def _growth(ledger: Ledger, panel: Panel, counts: Sequence[int]) -> Chart:
    figure = new_figure(WIDTH_INCHES, HEIGHT_INCHES)
    legend = growth_on(figure.subplots(), ledger, panel, counts)
    most = max(counts)
    words = "; ".join(
        f"{ledger.lines[index].title}: {megabytes(cost.total_bytes(most))} MB" for index, cost in panel.costs
    )
    description = (
        f"{panel.title} by the number of tasks ({panel.basis}), both axes logarithmic. With {most:,} tasks: {words}."
    )
    return Chart(f"ledger-{panel.name}", f"{panel.title}, for N tasks", description, figure, legend)


def _frame(across: str, up: str) -> tuple[Figure, Axes]:
    figure = new_figure(WIDTH_INCHES, HEIGHT_INCHES)
    axes = figure.subplots()
    axes.set(xlabel=across, ylabel=up)
    return figure, axes
