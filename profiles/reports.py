"""What was measured, where and how: the report, and the JSON document it is kept in (schema 3, `docs/reports.md`).

Every sample is kept. Summaries, rates and sizes in all are in the document for readers; this module works them out from
the samples, so a document cannot contradict itself.
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
from mimi_edge.profiles.latency import LatencySummary, Ratio, Samples, Share, summarise
from mimi_edge.profiles.storage import PackageStorage
from mimi_edge.recalls import ClassRecalls
from mimi_edge.tasks.task import SplitAccuracy
from mimi_edge.texts import excerpt

SCHEMA, OLDEST_SCHEMA = 3, 2
ONE_EACH, SOME_EACH = "one for each artefact", "some for each artefact"
"""What reports of schema 2, and those of today, say of the processes of artefacts."""
REPORT_KIND = DocumentKind(
    "a report",
    largest_bytes=250_000_000,
    mend="Measure again.",
    absent="Check the path. A report is made by: mimi-edge profile --report FILE.json",
    newest=SCHEMA,
    open=True,
)
KINDS = ("backbone", "task", "graph", "engine", "peer")
RATIO_FIELDS = tuple(one.name for one in fields(Ratio))
ESTIMATE_FIELDS = ("device", "title", "precision", "batch", "bounds_ms", "launch_assumption")


@dataclass(frozen=True)
class Failure:
    """How the measurement of one artefact ended before its time.

    Attributes:
        stage: what it was doing: `open`, `accuracy`, `latency, batch 8`, ...
        message: what it said last.
        exit_code: of its process, negative for a signal; None where it had to be ended, or only refused.
    """

    stage: str
    message: str
    exit_code: int | None = None


@dataclass(frozen=True)
class MeasuredAccuracy:
    """Top-1 accuracy of the very artefact, in its runtime.

    Attributes:
        split: of the task's data.
        images: in it.
        right: of those.
        recalls: by class, the share of its images that are right; empty where the classes are not known.
    """

    split: str
    images: int
    right: int
    recalls: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 <= self.right <= self.images or self.images < 1:
            raise ConfigError(f"Of at least one image, between none and all are right; got {self}.")
        if not all(0 <= recall <= 1 for recall in self.recalls.values()):
            raise ConfigError(f"The recall of a class is a share of 0..1; got {dict(self.recalls)}.")

    @property
    def balanced_accuracy(self) -> float | None:
        """The mean recall of the classes; None where they are not known."""
        return ClassRecalls(self.recalls).balanced_accuracy if self.recalls else None

    @property
    def accuracy(self) -> float:
        """A share of 0..1."""
        return self.right / self.images


@dataclass(frozen=True)
class Preparation:
    """What it takes, on one thread, to make an image file's content ready for the artefact; nanoseconds an image.

    Attributes:
        source: which images: `test split`, or `made up` where none were given.
        read_ns: to decode an image, one value each.
        fit_ns: to resize and crop it.
        normalise_ns: to scale and normalise it, and to put channels first.
    """

    source: str
    read_ns: tuple[int, ...]
    fit_ns: tuple[int, ...]
    normalise_ns: tuple[int, ...]

    def __post_init__(self) -> None:
        if not len(self.read_ns) == len(self.fit_ns) == len(self.normalise_ns) > 0:
            raise ConfigError("The time of preprocessing needs the same images, one or more, in each of its steps.")

    @property
    def total_ns(self) -> tuple[int, ...]:
        """All three steps, by image."""
        return tuple(map(sum, zip(self.read_ns, self.fit_ns, self.normalise_ns, strict=True)))


@dataclass(frozen=True)
class MemoryUse:
    """Largest memory of an artefact's process, and the floor below it.

    The floor is taken in that process when the runtime is loaded and, on a GPU, its context made, before the artefact
    is opened. Bytes of the process, not of the machine.

    Attributes:
        host_floor_bytes: resident memory then.
        host_peak_bytes: largest resident memory until its end.
        device_floor_bytes: of the GPU used by the process then; None without a GPU, or where the driver does not tell.
        device_peak_bytes: largest seen until its end.
    """

    host_floor_bytes: int
    host_peak_bytes: int
    device_floor_bytes: int | None = None
    device_peak_bytes: int | None = None

    @property
    def host_bytes(self) -> int:
        """What the artefact added to the host's memory at most."""
        return max(0, self.host_peak_bytes - self.host_floor_bytes)

    @property
    def device_bytes(self) -> int | None:
        """What it added to the GPU's memory at most."""
        if self.device_floor_bytes is None or self.device_peak_bytes is None:
            return None
        return max(0, self.device_peak_bytes - self.device_floor_bytes)


@dataclass(frozen=True)
class EnergyUse:
    """Joules while one artefact ran alone, over and over.

    Attributes:
        joules: in all that time, idle included.
        seconds: of it.
        images: that were answered in it.
        idle_watts: of the machine at rest, measured before.
        method: `counter` of the device, or `trapezoid` over sampled watts.
        samples: readings in that time.
        meter: what was read, and what that covers.
    """

    joules: float
    seconds: float
    images: int
    idle_watts: float
    method: str
    samples: int
    meter: str

    def __post_init__(self) -> None:
        if self.images < 1 or not self.seconds > 0:
            raise ConfigError(f"Energy is of at least one image and of some time; got {self}.")

    @property
    def mean_watts(self) -> float:
        """Over that time, idle included."""
        return self.joules / self.seconds

    @property
    def joules_per_image(self) -> float:
        """Above idle: what the machine would have used doing nothing is subtracted."""
        return (self.joules - self.idle_watts * self.seconds) / self.images


@dataclass(frozen=True)
class RatioTo:
    """Median latency of an artefact over that of another at the same batch, with an interval.

    Attributes:
        to: name of the other artefact.
        ratio: value and interval.
    """

    to: str
    ratio: Ratio

    @property
    def seen(self) -> bool:
        """Whether the interval leaves 1 out."""
        return self.ratio.difference_seen

    @property
    def verdict(self) -> str:
        """`yes`, `no difference seen` or `too busy to tell`."""
        return self.ratio.verdict


@dataclass(frozen=True)
class Measurement:
    """One artefact at one batch, from images in host memory to outputs in host memory.

    Attributes:
        batch: images at a time.
        samples: all of them, in the order in which they were taken.
        ratio: to the report's reference; None for the reference itself, or where that has no samples.
        energy: None where it was not measured.
        estimate: what the device's data sheet promises, None where there is none. Never a measurement.
    """

    batch: int
    samples: Samples
    ratio: RatioTo | None = None
    energy: EnergyUse | None = None
    estimate: Estimate | None = None

    def __post_init__(self) -> None:
        if self.batch < 1 or not self.samples.latency_ns or min(self.samples.latency_ns) < 1:
            raise ConfigError(f"A measurement has a batch and samples, all above 0 ns; got batch {self.batch}.")

    @property
    def summary(self) -> LatencySummary:
        """Percentiles, mean, extremes and jitter."""
        return summarise(self.samples.latency_ns)

    @property
    def images_per_second(self) -> float:
        """Images over the time that their inferences took, one batch after the other."""
        return self.batch * 1000 / self.summary.mean_ms


@dataclass(frozen=True)
class MeasuredArtefact:
    """One thing that was measured: a bare backbone, a task, a graph, an engine, or a peer to compare with.

    Attributes:
        name: of it in this report, where no other has the same.
        kind: one of `KINDS`.
        backbone: name of its backbone; None where it is not known.
        origin: the package, or else the folder, that it was found in; empty where that is not known.
        task: that it answers for, None for a bare backbone.
        backend: that ran it, such as `ort-cpu`.
        precision: that it computes in, such as `fp32`.
        strategy: of an engine: `per-task`, `shared` or `refit`; None for everything else.
        files: sizes in bytes of the files it needs to run, each once, by path.
        neurons: of every site of the backbone, in network order; None where they are not known.
        gflops: 2 x multiply-accumulates of one image in 1000^3, None where they cannot be counted.
        stored_accuracy: by split, as the task file says.
        accuracy: of this very artefact, measured; None where no images were given.
        preprocessing: its time, apart from the latency.
        memory: None where it was not measured.
        failure: what ended it; what was measured before is still here.
        measurements: by batch.
    """

    name: str
    kind: str
    backend: str
    task: str | None = None
    backbone: str | None = None
    origin: str = ""
    precision: str = "fp32"
    strategy: str | None = None
    files: Mapping[str, int] = field(default_factory=dict)
    neurons: Mapping[str, int] | None = None
    gflops: float | None = None
    stored_accuracy: Mapping[str, SplitAccuracy] = field(default_factory=dict)
    accuracy: MeasuredAccuracy | None = None
    preprocessing: Preparation | None = None
    memory: MemoryUse | None = None
    failure: Failure | None = None
    measurements: tuple[Measurement, ...] = ()

    def __post_init__(self) -> None:
        if not self.name or self.kind not in KINDS:
            raise ConfigError(
                f"An artefact has a name and a kind of {', '.join(KINDS)}; got {self.name!r}, {self.kind!r}."
            )
        batches = [one.batch for one in self.measurements]
        if len(set(batches)) < len(batches):
            raise ConfigError(f"{self.name} has batches measured twice: {batches}.")

    @property
    def size_bytes(self) -> int:
        """Of all its files, as they lie."""
        return sum(self.files.values())

    def at(self, batch: int) -> Measurement | None:
        """The measurement at a batch, None where there is none."""
        return next((one for one in self.measurements if one.batch == batch), None)


@dataclass(frozen=True)
class Report:
    """One run of the profiler.

    Attributes:
        made: when it began, ISO 8601 with a zone.
        seed: of images and of the order of measurement.
        environment: machine and software.
        method: how latency was measured: `rounds`, `turns`, `warm_up` and so on, for readers.
        artefacts: the first that was measured is the reference of the ratios.
        storage: of the package, where one package was given.
        ledger: of a fleet, as `mimi_edge.profiles.ledger` makes it.
    """

    made: str
    seed: int
    environment: Environment
    artefacts: tuple[MeasuredArtefact, ...]
    method: Mapping[str, Any] = field(default_factory=dict)
    storage: PackageStorage | None = None
    ledger: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        names = [one.name for one in self.artefacts]
        if not names or len(set(names)) < len(names):
            raise ConfigError(f"A report has artefacts, each with a name of its own; got {', '.join(names) or 'none'}.")

    @property
    def batches(self) -> tuple[int, ...]:
        """All that were measured, in order."""
        return tuple(dict.fromkeys(measured.batch for one in self.artefacts for measured in one.measurements))

    @property
    def backbones(self) -> tuple[str, ...]:
        """Names of those that are known, each once."""
        return tuple(dict.fromkeys(one.backbone for one in self.artefacts if one.backbone))

    @property
    def origins(self) -> tuple[str, ...]:
        """Packages and folders that artefacts were found in, as far as they are known, each once."""
        return tuple(dict.fromkeys(one.origin for one in self.artefacts if one.origin))

    @property
    def failed(self) -> tuple[MeasuredArtefact, ...]:
        """Artefacts whose measurement did not end well."""
        return tuple(one for one in self.artefacts if one.failure is not None)

    def artefact(self, name: str) -> MeasuredArtefact:
        """One by its name.

        Raises:
            KeyError: there is none.
        """
        for one in self.artefacts:
            if one.name == name:
                return one
        raise KeyError(name)


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
