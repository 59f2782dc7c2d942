"""What was measured, where and how. Every sample is kept; summaries, rates and sizes in all follow from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mimi_edge.errors import ConfigError
from mimi_edge.profiles.devices.roofline import Estimate
from mimi_edge.profiles.environment import Environment
from mimi_edge.profiles.latency import LatencySummary, Ratio, Samples, summarise
from mimi_edge.profiles.storage import PackageStorage
from mimi_edge.recalls import ClassRecalls
from mimi_edge.tasks.task import SplitAccuracy

SOME_EACH = "some for each artefact"
"""What reports say of the processes of artefacts."""
KINDS = ("backbone", "task", "graph", "engine", "peer")


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
