"""The JSON document that a report is kept in (schema 3, `docs/reports.md`).

Summaries, rates and sizes in all are in it for readers; who reads one here works them out from the samples again, so a
document cannot contradict itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from mimi_edge.documents import DocumentKind, typed_document
from mimi_edge.errors import ArtifactError, ConfigError
from mimi_edge.parts import upgrade_words
from mimi_edge.profiles.devices.roofline import LABEL, Estimate
from mimi_edge.profiles.environment import Environment
from mimi_edge.profiles.latency import Ratio, Samples, Share, summarise
from mimi_edge.profiles.reports import (
    SOME_EACH,
    EnergyUse,
    Failure,
    MeasuredAccuracy,
    MeasuredArtefact,
    Measurement,
    MemoryUse,
    Preparation,
    RatioTo,
    Report,
)
from mimi_edge.profiles.storage import PackageStorage
from mimi_edge.tasks.task import SplitAccuracy
from mimi_edge.texts import excerpt

SCHEMA, OLDEST_SCHEMA = 3, 2
ONE_EACH = "one for each artefact"
"""What reports of schema 2 say of the processes of artefacts."""
REPORT_KIND = DocumentKind(
    "a report",
    largest_bytes=250_000_000,
    mend="Measure again.",
    absent="Check the path. A report is made by: mimi-edge profile --report FILE.json",
    newest=SCHEMA,
    open=True,
)
RATIO_FIELDS = tuple(one.name for one in fields(Ratio))
ESTIMATE_FIELDS = ("device", "title", "precision", "batch", "bounds_ms", "launch_assumption")


def report_document(report: Report) -> dict[str, Any]:
    """The report as JSON has it."""
    return {
        "schema": SCHEMA,
        "made": report.made,
        "seed": report.seed,
        "method": dict(report.method),
        "environment": environment_document(report.environment),
        "storage": None if report.storage is None else _storage_document(report.storage),
        "ledger": None if report.ledger is None else dict(report.ledger),
        "artefacts": [_artefact_document(one) for one in report.artefacts],
    }


def report_from_document(document: Mapping[str, Any], where: object = "This report") -> Report:
    """The report that `report_document` made a document of; those of earlier schemas are taken over.

    Args:
        document: as JSON has it.
        where: it is from, for messages.

    Raises:
        ArtifactError: it is no such document, or of a newer format.
    """
    schema = document.get("schema") if isinstance(document, Mapping) else None
    if type(schema) is not int or not OLDEST_SCHEMA <= schema <= SCHEMA:
        raise ArtifactError(
            f"{where} is no report that can be read here: expected schema {OLDEST_SCHEMA} to {SCHEMA}, got "
            f"{excerpt(schema)}. Measure again, with mimi-edge profile. {upgrade_words()}"
        )
    if schema < SCHEMA:
        document = _of_schema_2(document)
    entries = typed_document(document, where, REPORT_KIND, _ReportEntries)
    try:
        return _report_from(entries)
    except ConfigError as error:
        raise ArtifactError(f"{where} cannot be: {error} {REPORT_KIND.mend}") from error


def _of_schema_2(document: Mapping[str, Any]) -> dict[str, Any]:
    """The same report as of today: there was one process for each artefact."""
    method = document.get("method")
    if isinstance(method, Mapping) and method.get("processes") == ONE_EACH:
        method = {**method, "processes": SOME_EACH, "processes_each": 1}
    return {**document, "schema": SCHEMA, "method": method}


def environment_document(environment: Environment) -> dict[str, Any]:
    """An environment as JSON has it."""
    return asdict(environment) | {"providers": list(environment.providers), "marks": list(environment.marks)}


def summary_document(latency_ns: Sequence[int]) -> dict[str, Any]:
    """Percentiles, mean, extremes and jitter of samples, as JSON has them."""
    return asdict(summarise(latency_ns))


# Writing.


def _storage_document(storage: PackageStorage) -> dict[str, Any]:
    return asdict(storage) | {
        "backbone_bytes": storage.backbone_bytes,
        "full_models_bytes": storage.full_models_bytes,
    }


def _artefact_document(artefact: MeasuredArtefact) -> dict[str, Any]:
    nested = {
        "stored_accuracy": {split: asdict(value) for split, value in artefact.stored_accuracy.items()},
        "accuracy": _with(artefact.accuracy, "accuracy", "balanced_accuracy"),
        "preprocessing": None if artefact.preprocessing is None else _preparation_document(artefact.preprocessing),
        "memory": _with(artefact.memory, "host_bytes", "device_bytes"),
        "failure": _with(artefact.failure),
        "measurements": [_measurement_document(one) for one in artefact.measurements],
    }
    return {**vars(artefact), "size_bytes": artefact.size_bytes, **nested}


def _with(value: Any, *derived: str) -> dict[str, Any] | None:
    """A dataclass and some of its properties, as JSON has them; None stays None."""
    return None if value is None else asdict(value) | {name: getattr(value, name) for name in derived}


def _preparation_document(preparation: Preparation) -> dict[str, Any]:
    return {
        "source": preparation.source,
        "images": len(preparation.total_ns),
        "summary": summary_document(preparation.total_ns),
        **{
            step: {"samples_ns": list(samples_ns), "summary": summary_document(samples_ns)}
            for step, samples_ns in _steps(preparation)
        },
    }


def _steps(preparation: Preparation) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "read", preparation.read_ns
    yield "fit", preparation.fit_ns
    yield "normalise", preparation.normalise_ns


def _measurement_document(measurement: Measurement) -> dict[str, Any]:
    ratio = measurement.ratio
    return {
        "batch": measurement.batch,
        "summary": asdict(measurement.summary),
        "images_per_second": measurement.images_per_second,
        "ratio": None if ratio is None else _ratio_document(ratio),
        "energy": _with(measurement.energy, "joules_per_image", "mean_watts"),
        "estimate": None if measurement.estimate is None else _estimate_document(measurement.estimate),
        "settled": measurement.samples.settled,
        "latency_ns": list(measurement.samples.latency_ns),
        "warm_up_ns": list(measurement.samples.warm_up_ns),
        "turn_starts_ns": list(measurement.samples.turn_starts_ns),
        "processes": [asdict(share) for share in measurement.samples.shares],
    }


def _ratio_document(ratio: RatioTo) -> dict[str, Any]:
    return {"to": ratio.to, **asdict(ratio.ratio), "seen": ratio.seen, "verdict": ratio.verdict}


def _estimate_document(estimate: Estimate) -> dict[str, Any]:
    return {
        "label": LABEL,
        **{name: getattr(estimate, name) for name in ESTIMATE_FIELDS},
        "bounds_ms": dict(estimate.bounds_ms),
        "bound": estimate.bound,
        "ms": estimate.ms,
        "images_per_second": estimate.images_per_s,
    }


# Reading: entries as they lie in the document, where they are not those of the dataclass.


@dataclass(frozen=True)
class _StepEntries:
    samples_ns: tuple[int, ...]


@dataclass(frozen=True)
class _PreparationEntries:
    source: str
    read: _StepEntries
    fit: _StepEntries
    normalise: _StepEntries


@dataclass(frozen=True)
class _RatioEntries(Ratio):
    to: str = field(kw_only=True)


@dataclass(frozen=True)
class _MeasurementEntries:
    batch: int
    latency_ns: tuple[int, ...]
    warm_up_ns: tuple[int, ...]
    turn_starts_ns: tuple[int, ...]
    settled: bool
    ratio: _RatioEntries | None
    energy: EnergyUse | None
    estimate: Estimate | None
    processes: tuple[Share, ...] = ()


@dataclass(frozen=True)
class _ArtefactEntries:
    name: str
    kind: str
    task: str | None
    backend: str
    precision: str
    strategy: str | None
    files: Mapping[str, int]
    neurons: Mapping[str, int] | None
    gflops: float | None
    stored_accuracy: Mapping[str, SplitAccuracy]
    accuracy: MeasuredAccuracy | None
    preprocessing: _PreparationEntries | None
    memory: MemoryUse | None
    failure: Failure | None
    measurements: tuple[_MeasurementEntries, ...]
    backbone: str | None = None
    origin: str = ""


@dataclass(frozen=True)
class _ReportEntries:
    made: str
    seed: int
    method: Mapping[str, Any]
    environment: Environment
    storage: PackageStorage | None
    ledger: Mapping[str, Any] | None
    artefacts: tuple[_ArtefactEntries, ...]


def _report_from(entries: _ReportEntries) -> Report:
    return Report(**{**vars(entries), "artefacts": tuple(map(_artefact_from, entries.artefacts))})


def _artefact_from(entries: _ArtefactEntries) -> MeasuredArtefact:
    preparation = entries.preprocessing
    found = {
        "preprocessing": None if preparation is None else _preparation_from(preparation),
        "measurements": tuple(map(_measurement_from, entries.measurements)),
    }
    return MeasuredArtefact(**{**vars(entries), **found})


def _preparation_from(entries: _PreparationEntries) -> Preparation:
    steps = (step.samples_ns for step in (entries.read, entries.fit, entries.normalise))
    return Preparation(entries.source, *steps)


def _measurement_from(entries: _MeasurementEntries) -> Measurement:
    taken = (entries.latency_ns, entries.warm_up_ns, entries.settled, entries.turn_starts_ns, entries.processes)
    ratio = entries.ratio
    to = None if ratio is None else RatioTo(ratio.to, Ratio(**{name: getattr(ratio, name) for name in RATIO_FIELDS}))
    return Measurement(entries.batch, Samples(*taken), to, entries.energy, entries.estimate)
