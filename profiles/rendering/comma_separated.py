"""The report as CSV: a row for each artefact and batch, or one for each sample."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from mimi_edge.profiles.rendering.markup import plain
from mimi_edge.profiles.reports import MeasuredArtefact, Measurement, Report

FORMULA_STARTS = tuple("=+-@\t\r")
SUMMARY = ("p50_ms", "p90_ms", "p99_ms", "mean_ms", "min_ms", "max_ms", "jitter_ms", "count")
COLUMNS = (
    *("made", "device", "artefact", "kind", "task", "backend", "precision", "strategy", "batch"),
    *SUMMARY,
    *("settled", "images_per_second", "ratio_to", "ratio", "ratio_low", "ratio_high", "difference_seen"),
    *("size_bytes", "neurons", "gflops", "accuracy", "accuracy_split", "accuracy_images", "stored_test_accuracy"),
    *("host_bytes", "device_bytes", "joules_per_image", "mean_watts", "estimate_ms", "estimate_bound"),
    *("failure_stage", "failure_message"),
    *("verdict", "processes", "balanced_accuracy", "backbone", "origin"),
)
SAMPLE_COLUMNS = ("artefact", "batch", "warm_up", "index", "latency_ns", "process")


def csv_text(report: Report) -> str:
    """A row for each artefact and batch; one without a batch for an artefact that has no measurement."""
    rows = [
        _shared(report, artefact) | _measured(found)
        for artefact in report.artefacts
        for found in artefact.measurements or (None,)
    ]
    return written(COLUMNS, rows)


def samples_csv_text(report: Report) -> str:
    """A row for each sample, process by process, in the order in which each took them, those of its warm-up first."""
    return written(SAMPLE_COLUMNS, _samples(report))


def _samples(report: Report) -> Iterator[dict[str, Any]]:
    for artefact in report.artefacts:
        for found in artefact.measurements:
            parts = zip(found.samples.warm_up_by_process, found.samples.by_process, strict=True)
            for process, (warm_up_ns, latency_ns) in enumerate(parts):
                for warm_up, taken in ((True, warm_up_ns), (False, latency_ns)):
                    for index, value in enumerate(taken):
                        values = (artefact.name, found.batch, warm_up, index, value, process)
                        yield dict(zip(SAMPLE_COLUMNS, values, strict=True))


def _shared(report: Report, artefact: MeasuredArtefact) -> dict[str, Any]:
    environment, stored = report.environment, artefact.stored_accuracy.get("test")
    row: dict[str, Any] = {
        name: getattr(artefact, name)
        for name in ("kind", "task", "backbone", "origin", "backend", "precision", "strategy", "size_bytes", "gflops")
    }
    row |= {"made": report.made, "device": (environment.gpu or {}).get("name") or environment.cpu}
    row |= {"artefact": artefact.name, "stored_test_accuracy": None if stored is None else stored.accuracy}
    row["neurons"] = None if artefact.neurons is None else sum(artefact.neurons.values())
    if (accuracy := artefact.accuracy) is not None:
        row["balanced_accuracy"] = accuracy.balanced_accuracy
        row |= {"accuracy": accuracy.accuracy, "accuracy_split": accuracy.split, "accuracy_images": accuracy.images}
    if (memory := artefact.memory) is not None:
        row |= {"host_bytes": memory.host_bytes, "device_bytes": memory.device_bytes}
    if (failure := artefact.failure) is not None:
        row |= {"failure_stage": failure.stage, "failure_message": failure.message}
    return row


def _measured(found: Measurement | None) -> dict[str, Any]:
    if found is None:
        return {}
    summary = asdict(found.summary)
    row: dict[str, Any] = {"batch": found.batch, **{name: summary[name] for name in SUMMARY}}
    row |= {
        "processes": found.samples.processes,
        "settled": found.samples.settled,
        "images_per_second": found.images_per_second,
    }
    if (to := found.ratio) is not None:
        row |= {"ratio_to": to.to, "ratio": to.ratio.value, "ratio_low": to.ratio.low, "ratio_high": to.ratio.high}
        row |= {"difference_seen": to.seen, "verdict": to.verdict}
    if (energy := found.energy) is not None:
        row |= {"joules_per_image": energy.joules_per_image, "mean_watts": energy.mean_watts}
    if (estimate := found.estimate) is not None:
        row |= {"estimate_ms": estimate.ms, "estimate_bound": estimate.bound}
    return row


def written(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """CSV with a heading; a row that lacks a column leaves its cell empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(row.get(column)) for column in columns] for row in rows)
    return out.getvalue()


def _cell(value: object) -> object:
    """Text that a spreadsheet takes for a formula gets an apostrophe before it; no figure starts so as text."""
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str):
        return value
    return f"'{plain(value)}" if value.startswith(FORMULA_STARTS) else plain(value)
