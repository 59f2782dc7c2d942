"""What a report and a ledger look like: latencies, accuracy against bytes, neurons, what many tasks take."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from mimi_edge.profiles.ledger import DEFAULT_COUNTS, Cost, Ledger, Panel, panels
from mimi_edge.profiles.rendering.axes import Axis, linear, logarithmic
from mimi_edge.profiles.rendering.drawing import (
    BOTTOM,
    LEFT,
    RIGHT,
    TOP,
    Chart,
    bars_legend,
    colour,
    dots_legend,
    frame,
    legend,
    line,
)
from mimi_edge.profiles.rendering.figures import MEGABYTE, megabytes, percent
from mimi_edge.profiles.rendering.markup import Markup, element, joined
from mimi_edge.profiles.reports import MeasuredAccuracy, MeasuredArtefact, Report

DRAWN_SHARE = 0.99
DRAWN_POINTS = 100
NORMAL_QUANTILE_95 = 1.959964
BACKBONE = "backbone"
APART = 12
"""Of points that would lie on one another, in units of the drawing."""
WIDEST_BAR = 32


def report_charts(report: Report) -> list[Chart]:
    """Those that a report has figures for; without the ledger's."""
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
    samples = {
        artefact.name: np.asarray(found.samples.latency_ns) / 1e6
        for artefact in report.artefacts
        if (found := artefact.at(batch)) is not None
    }
    shares = np.linspace(0, DRAWN_SHARE, DRAWN_POINTS)
    quantiles = {name: np.quantile(values, shares) for name, values in samples.items()}
    across = linear([float(edge) for values in quantiles.values() for edge in (values[0], values[-1])], LEFT, RIGHT)
    up = Axis(0, 1, BOTTOM, TOP, (0, 0.25, 0.5, 0.75, 1))
    lines = [
        line([(across.place(float(x)), up.place(float(y))) for x, y in zip(values, shares, strict=True)], index, name)
        for index, (name, values) in enumerate(quantiles.items())
    ]
    medians = "; ".join(f"{name}: p50 {np.median(values):.3f} ms" for name, values in samples.items())
    return Chart(
        f"latency-{batch}",
        f"Latency, batch {batch}",
        f"Share of samples that took no longer, up to p99. {medians}.",
        joined(frame(across, up, "ms", "share of samples"), *lines),
        legend(dict(enumerate(samples))),
    )


def accuracy_chart(report: Report) -> Chart:
    """Top-1 accuracy over the bytes that an artefact needs beyond the bare backbone, with 95 % intervals."""
    found = {
        artefact.name: (own_bytes(report, artefact), artefact.accuracy)
        for artefact in report.artefacts
        if artefact.accuracy is not None
    }
    across = logarithmic([max(1, size) / MEGABYTE for size, _ in found.values()], LEFT, RIGHT)
    up = linear([edge for _, accuracy in found.values() for edge in wilson(accuracy)], BOTTOM, TOP)
    places = _apart([across.place(max(1, size) / MEGABYTE) for size, _ in found.values()])
    points = [
        _point(places[index], accuracy, up, index, name) for index, (name, (_, accuracy)) in enumerate(found.items())
    ]
    words = "; ".join(
        f"{name}: {percent(accuracy.accuracy)} with {megabytes(size)} MB" for name, (size, accuracy) in found.items()
    )
    return Chart(
        "accuracy",
        "Accuracy against bytes",
        f"Measured top-1 accuracy with its 95 % interval, over what comes on top of the backbone's files. {words}.",
        joined(frame(across, up, "MB on top of the backbone's files", "top-1 accuracy"), *points),
        dots_legend(list(found)),
    )


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


def _apart(places: Sequence[float]) -> list[float]:
    """Places across, with those that are nearly the same moved beside one another."""
    moved: list[float] = []
    for place in places:
        free = (place + sign * step * APART for step in range(2 * len(places)) for sign in (1, -1))
        moved.append(next(it for it in free if all(abs(it - other) >= APART for other in moved)))
    return moved


def _point(x: float, accuracy: MeasuredAccuracy, up: Axis, series: int, name: str) -> Markup:
    low, high = (up.place(edge) for edge in wilson(accuracy))
    return element(
        "g",
        element("title", f"{name}: {percent(accuracy.accuracy)}"),
        element("line", x1=x, x2=x, y1=low, y2=high, class_=f"line {colour(series)}"),
        element("circle", cx=x, cy=up.place(accuracy.accuracy), r=4.5, class_=f"dot {colour(series)}"),
    )


def neurons_chart(artefact: MeasuredArtefact, identity: str) -> Chart:
    """A bar a site, in network order; attention and MLP in colours of their own."""
    neurons = artefact.neurons or {}
    most = max(1, *neurons.values())
    # Few must be visible beside hundreds, and none must be none.
    up = Axis(0, _bent(most), BOTTOM, TOP, ())
    room = (RIGHT - LEFT) / len(neurons)
    width = min(room * 0.8, WIDEST_BAR)
    bars = []
    for index, (site, count) in enumerate(neurons.items()):
        y = up.place(_bent(count))
        bars.append(
            element(
                "rect",
                element("title", f"{site}: {count}"),
                x=round(LEFT + (index + 0.5) * room - width / 2, 2),
                y=y,
                width=round(width, 2),
                height=round(BOTTOM - y, 2),
                class_=f"bar {colour(0 if _is_attention(site) else 1)}",
            )
        )
    ticks = [0, *(4**power for power in range(12) if 2 * 4**power <= most), most]
    empty = sum(not count for count in neurons.values())
    return Chart(
        identity,
        f"Neurons per site: {artefact.name}",
        f"{sum(neurons.values())} neurons at {len(neurons) - empty} of {len(neurons)} sites; most at one site: {most}.",
        joined(_bent_grid(ticks, up), *bars, _sites_axis()),
        bars_legend(["attention sites", "MLP sites"]),
    )


def _bent(count: int) -> float:
    return math.log2(1 + count)


def _is_attention(site: str) -> bool:
    return "att" in site.rpartition(".")[2].lower()


def _bent_grid(ticks: Sequence[int], up: Axis) -> Markup:
    parts = []
    for tick in ticks:
        y = up.place(_bent(tick))
        parts.append(element("line", x1=LEFT, x2=RIGHT, y1=y, y2=y, class_="grid"))
        parts.append(element("text", str(tick), x=LEFT - 6, y=y + 4, class_="tick end"))
    return joined(*parts)


def _sites_axis() -> Markup:
    middle = (TOP + BOTTOM) / 2
    return joined(
        element("line", x1=LEFT, x2=RIGHT, y1=BOTTOM, y2=BOTTOM, class_="axis"),
        element("text", "sites in network order", x=(LEFT + RIGHT) / 2, y=BOTTOM + 20, class_="label middle"),
        element("text", "neurons (log)", x=-middle, y=12, transform="rotate(-90)", class_="label middle"),
    )


def ledger_charts(ledger: Ledger, counts: Sequence[int] = DEFAULT_COUNTS) -> list[Chart]:
    """Storage and memory over the number of tasks, a line a strategy; another basis is another chart."""
    return [_growth(ledger, panel, max(2, *counts)) for panel in panels(ledger)]


def _growth(ledger: Ledger, panel: Panel, most: int) -> Chart:
    titles = {index: ledger.lines[index].title for index, _ in panel.costs}
    totals = {index: list(_totals(cost, most)) for index, cost in panel.costs}
    across = logarithmic([1, most], LEFT, RIGHT)
    up = logarithmic([size / MEGABYTE for points in totals.values() for _, size in points], BOTTOM, TOP)
    lines = [
        line([(across.place(n), up.place(size / MEGABYTE)) for n, size in points], index, titles[index])
        for index, points in totals.items()
    ]
    words = "; ".join(f"{titles[index]}: {megabytes(points[-1][1])} MB" for index, points in totals.items())
    return Chart(
        f"ledger-{panel.name}",
        f"{panel.title}, for N tasks",
        f"{panel.title} by the number of tasks ({panel.basis}), both axes logarithmic. With {most:,} tasks: {words}.",
        joined(frame(across, up, f"tasks ({panel.basis})", "MB"), *lines),
        legend(titles),
    )


def _totals(cost: Cost, most: int) -> Iterator[tuple[int, int]]:
    for count in sorted({*(round(most ** (step / 40)) for step in range(41))}):
        yield count, max(1, cost.total_bytes(count))
