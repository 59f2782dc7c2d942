"""Prints what the profiler measured, for people; 80 columns are enough."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mimi_edge.cli.output import show_facts, show_table
from mimi_edge.errors import MimiEdgeError
from mimi_edge.recalls import ClassRecalls

if TYPE_CHECKING:
    from mimi_edge.profiles.reports import MeasuredArtefact, Measurement, Report

MB = 1000**2
BARE = "bare backbone"


def show_report(report: Report, sources: Sequence[Path]) -> None:
    """Tables of everything, and at the end what matters of each task."""
    _show_neurons(report)
    _show_costs(report)
    _show_latencies(report)
    _show_energy(report)
    _show_estimates(report)
    _show_preprocessing(report)
    for mark in report.environment.marks:
        show_facts("", {"Mind": mark})
    _show_closing(report, sources)


def _called(artefact: MeasuredArtefact) -> str:
    return BARE if artefact.kind == "backbone" and artefact.name == "backbone" else artefact.name


def _show_neurons(report: Report) -> None:
    counted = [(_called(one), one.neurons) for one in report.artefacts if one.neurons is not None]
    if not counted:
        return
    sites = list(dict.fromkeys(site for _, neurons in counted for site in neurons))
    rows = [(site, *(neurons.get(site, 0) for _, neurons in counted)) for site in sites]
    totals = ("all sites", *(sum(neurons.values()) for _, neurons in counted))
    show_table("Neurons per site", ("site", *(name for name, _ in counted)), [*rows, totals])


def _show_costs(report: Report) -> None:
    rows = [
        (
            _called(one),
            one.backend,
            one.precision,
            f"{one.size_bytes / MB:,.2f}",
            "" if one.gflops is None else f"{one.gflops:.3g}",
            _megabytes(None if one.memory is None else one.memory.host_bytes),
            _megabytes(None if one.memory is None else one.memory.device_bytes),
            "" if one.accuracy is None else f"{one.accuracy.accuracy:.2%}",
        )
        for one in report.artefacts
    ]
    columns = ("artefact", "backend", "type", "files", "GFLOPs", "host", "GPU", "accuracy")
    show_table("MB of files, peak MB above the runtime's own floor, GFLOPs an image", columns, rows)


def _megabytes(size_bytes: int | None) -> str:
    return "" if size_bytes is None else f"{size_bytes / MB:,.1f}"


def _measured(report: Report) -> Iterator[tuple[MeasuredArtefact, Measurement]]:
    """By batch, and within a batch in the order of the artefacts."""
    for batch in report.batches:
        for one in report.artefacts:
            if (found := one.at(batch)) is not None:
                yield one, found


def _show_latencies(report: Report) -> None:
    rows = []
    for one, found in _measured(report):
        summary = found.summary
        rows.append(
            (
                _called(one),
                found.batch,
                f"{summary.p50_ms:.3f}",
                f"{summary.p90_ms:.3f}",
                f"{summary.p99_ms:.3f}",
                f"{summary.jitter_ms:.3f}",
                f"{found.images_per_second:,.1f}",
            )
        )
    if not rows:
        return
    count = max(found.summary.count for _, found in _measured(report))
    columns = ("artefact", "batch", "p50 ms", "p90 ms", "p99 ms", "jitter", "images/s")
    processes = max(found.samples.processes for _, found in _measured(report))
    show_table(f"Latency: up to {count} samples of {processes} processes each, in turns", columns, rows)
    _show_ratios(report)


def _show_ratios(report: Report) -> None:
    rows = [
        (
            _called(one),
            found.ratio.to,
            found.batch,
            f"{found.ratio.ratio.value:.3f}",
            f"{found.ratio.ratio.low:.3f} to {found.ratio.ratio.high:.3f}",
            found.ratio.verdict,
        )
        for one, found in _measured(report)
        if found.ratio is not None
    ]
    if rows:
        show_table("Ratio of p50", ("artefact", "to", "batch", "ratio", "95 % interval", "seen"), rows)


def _show_energy(report: Report) -> None:
    rows = [
        (
            _called(one),
            found.batch,
            f"{found.energy.joules_per_image:.4g}",
            f"{found.energy.mean_watts:.1f}",
            f"{found.energy.idle_watts:.1f}",
        )
        for one, found in _measured(report)
        if found.energy is not None
    ]
    meters = {found.energy.meter for _, found in _measured(report) if found.energy is not None}
    if rows:
        columns = ("artefact", "batch", "J/image", "watts", "idle watts")
        show_table(f"Energy above idle: {'; '.join(sorted(meters))}", columns, rows)


def _show_estimates(report: Report) -> None:
    from mimi_edge.profiles.devices.roofline import compare

    rows = []
    for one, found in _measured(report):
        if found.estimate is not None:
            error = compare(found.estimate, found.summary.p50_ms)
            estimated = f"{found.estimate.ms:.3g}"
            rows.append((_called(one), found.batch, estimated, found.estimate.bound, f"{error.relative:+.0%}"))
    if rows:
        title = next(found.estimate.title for _, found in _measured(report) if found.estimate is not None)
        columns = ("artefact", "batch", "estimate ms", "bound by", "estimate's error")
        show_table(f"Estimates, not measured: {title}", columns, rows)


def _show_preprocessing(report: Report) -> None:
    from mimi_edge.profiles.latency import summarise

    rows = []
    for one in report.artefacts:
        if (prepared := one.preprocessing) is not None:
            steps = (prepared.read_ns, prepared.fit_ns, prepared.normalise_ns, prepared.total_ns)
            rows.append((_called(one), prepared.source, *(f"{summarise(step).p50_ms:.3f}" for step in steps)))
    if rows:
        columns = ("artefact", "images", "read", "fit", "normalise", "together")
        show_table("Preprocessing of one image on one thread, p50 ms, not in the latency", columns, rows)


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
