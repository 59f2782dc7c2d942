"""Prints what the profiler measured, for people; 80 columns are enough."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mimi_edge.cli.output import show_facts, show_table
from mimi_edge.errors import MimiEdgeError
from mimi_edge.recalls import ClassRecalls

if TYPE_CHECKING:
    from mimi_edge.profiles.rendering.table import Table
    from mimi_edge.profiles.reports import MeasuredArtefact, Measurement, Report


def show_report(report: Report, sources: Sequence[Path]) -> None:
    """Tables of everything, and at the end what matters of each task."""
    for table in _tables(report):
        if table.rows:
            show_table(table)
    for mark in report.environment.marks:
        show_facts("", {"Mind": mark})
    _show_closing(report, sources)


def _tables(report: Report) -> Iterator[Table]:
    """Those of the report, with as many columns as a narrow terminal has room for."""
    from mimi_edge.profiles.rendering import tables

    yield tables.neurons_table(report)
    costs = ("artefact", "backend", "type", "MB", "GFLOPs", "host MB", "GPU MB", "accuracy")
    title = "MB of files, peak MB above the runtime's own floor, GFLOPs an image"
    yield tables.artefacts_table(report).only(costs, title=title)
    yield from _latencies(report)
    energy = tables.energy_table(report)
    meters = "; ".join(sorted(set(energy.column("read from"))))
    yield energy.only(("artefact", "batch", "J per image", "mean W", "idle W"), title=f"Energy above idle: {meters}")
    estimates = tables.estimates_table(report)
    bounds = ("artefact", "batch", "estimate ms", "bound by", "estimate's error")
    devices = "; ".join(sorted(set(estimates.column("device"))))
    yield estimates.only(bounds, title=f"Estimates, not measured: {devices}")
    steps = ("artefact", "source", "read ms", "fit ms", "normalise ms", "together ms")
    title = "Preprocessing of one image on one thread, not in the latency"
    yield tables.preprocessing_table(report).only(steps, title=title)


def _latencies(report: Report) -> Iterator[Table]:
    from mimi_edge.profiles.rendering.tables import latency_table

    latencies = latency_table(report)
    taken = [found for artefact in report.artefacts for found in artefact.measurements]
    count = max((found.summary.count for found in taken), default=0)
    processes = max((found.samples.processes for found in taken), default=0)
    times = ("artefact", "batch", "p50 ms", "p90 ms", "p99 ms", "jitter ms", "images/s")
    yield latencies.only(times, title=f"Latency: up to {count} samples of {processes} processes each, in turns")
    ratios = ("artefact", "ratio to", "batch", "ratio", "95 % interval", "difference seen")
    yield latencies.only(ratios, title="Ratio of p50", filled="ratio")


def _show_closing(report: Report, sources: Sequence[Path]) -> None:
    backbone = next((one for one in report.artefacts if one.kind == "backbone"), None)
    if backbone is None:
        return
    for task in report.artefacts:
        if task.kind == "task" and task.measurements and backbone.measurements:
            _show_task(backbone, task, sources)


def _show_task(backbone: MeasuredArtefact, task: MeasuredArtefact, sources: Sequence[Path]) -> None:
    neurons = task.neurons or {}
    stored = task.stored_accuracy.get("test")
    facts = {
        "task file": f"{_task_file_bytes(task):,} bytes",
        "backbone, shared by all tasks": f"{backbone.size_bytes:,} bytes",
        **(
            {"neurons": f"{sum(neurons.values())} at {sum(map(bool, neurons.values()))} of {len(neurons)} sites"}
            if any(neurons.values())
            else {}
        ),
        "test accuracy, task file": "not known" if stored is None else f"{stored.accuracy:.2%}",
        "test accuracy, exported graph": _accuracy(task, sources),
    }
    if task.accuracy is not None and task.accuracy.recalls:
        facts["by class"] = ClassRecalls(task.accuracy.recalls).sentence()
    for merged in task.measurements:
        facts |= _times(backbone, merged)
    show_facts(f"Task {task.name} on {task.backbone or backbone.name}", facts)


def _times(backbone: MeasuredArtefact, merged: Measurement) -> dict[str, str]:
    """Of one batch."""
    bare, at = backbone.at(merged.batch), f"batch {merged.batch}"
    facts = {
        f"p50 / p90 / p99, bare backbone, {at}": "not measured" if bare is None else _percentiles(bare),
        f"p50 / p90 / p99, merged graph, {at}": _percentiles(merged),
    }
    if merged.ratio is not None and merged.ratio.to == backbone.name:
        facts[f"merged / bare, ratio of p50, {at}"] = _ratio(merged)
    return facts


def _task_file_bytes(task: MeasuredArtefact) -> int:
    return sum(size for path, size in task.files.items() if path.endswith(".safetensors"))


def _ratio(merged: Measurement) -> str:
    assert merged.ratio is not None  # noqa: S101  (asked before)
    ratio = merged.ratio.ratio
    seen = "" if merged.ratio.seen else f", {merged.ratio.verdict}"
    return f"{ratio.value:.3f} ({ratio.confidence:.0%} interval {ratio.low:.3f} to {ratio.high:.3f}{seen})"


def _percentiles(measurement: Measurement) -> str:
    summary = measurement.summary
    return f"{summary.p50_ms:.3f} / {summary.p90_ms:.3f} / {summary.p99_ms:.3f} ms"


def _accuracy(task: MeasuredArtefact, sources: Sequence[Path]) -> str:
    if task.accuracy is not None:
        return f"{task.accuracy.accuracy:.2%} of {task.accuracy.images} images, measured now"
    for package in filter(Path.is_dir, sources):
        check = _check_at_export(package, task.task or "")
        if isinstance(check, dict) and "accuracy" in check and "images" in check:
            return f"{check['accuracy']:.2%} of {check['images']} images, measured at export"
    return "not measured (give --run or --data)"


def _check_at_export(package: Path, task: str) -> object:
    """What the package says of it; nothing where it cannot be read any more, for what was measured is to be shown."""
    from mimi_edge.export.manifest import read_manifest

    try:
        entry = read_manifest(package).tasks.get(task)
    except (MimiEdgeError, OSError):
        return None
    return None if entry is None else entry.check.get("accuracy")
