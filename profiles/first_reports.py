"""What a package costs, measured: bytes, accuracy and latency of the bare backbone and of every task's merged graph.

The JSON form has `schema` 1. It holds `environment`, `seed`, `storage`, `tasks` (name, bytes, neurons by site, accuracy
by split as the task file says, accuracy of the graph or null) and `latencies`: an entry for each graph and batch, with
`task` null for the bare backbone, every sample in nanoseconds, a summary in milliseconds, and the ratio of medians to
the backbone's at the same batch with its confidence interval. The summary is there for readers; this module works it
out from the samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mimi_edge.choices import Backend
from mimi_edge.errors import ArtifactError, ConfigError
from mimi_edge.events import Listener, Note, silent
from mimi_edge.images.decoding import DecodedSplit
from mimi_edge.profiles.accuracy import Run, top1_accuracy
from mimi_edge.profiles.environment import Environment, current_environment
from mimi_edge.profiles.latency import (
    LatencySummary,
    Ratio,
    Samples,
    WarmUp,
    measure,
    ratio_of_medians,
    summarise,
)
from mimi_edge.profiles.storage import PackageStorage, TaskStorage, package_storage
from mimi_edge.tasks.files import read_task
from mimi_edge.tasks.stores import Floats
from mimi_edge.tasks.task import SplitAccuracy, Task

if TYPE_CHECKING:
    from mimi_edge.export.packages import Package

SCHEMA = 1
DEFAULT_ROUNDS = 100
"""Samples of each graph: as few as still have a p99."""


@dataclass(frozen=True)
class TaskProfile:
    """What one task takes and is worth.

    Attributes:
        name: of the task.
        storage: bytes of its two files.
        neurons: of every site of the backbone, in network order; 0 where a site was emptied.
        stored_accuracy: by split, as the task file says.
        graph_accuracy: of the merged graph in its runtime; None where no images were given.
    """

    name: str
    storage: TaskStorage
    neurons: Mapping[str, int]
    stored_accuracy: Mapping[str, SplitAccuracy]
    graph_accuracy: SplitAccuracy | None


@dataclass(frozen=True)
class GraphLatency:
    """How long one graph takes for one batch, from images in host memory to outputs in host memory.

    Attributes:
        task: whose merged graph it is; None for the bare backbone.
        batch: images at a time.
        samples: all of them.
        ratio: of its median to the bare backbone's at this batch; None for the backbone itself.
    """

    task: str | None
    batch: int
    samples: Samples
    ratio: Ratio | None

    @property
    def summary(self) -> LatencySummary:
        """Percentiles, mean and extremes."""
        return summarise(self.samples.latency_ns)


@dataclass(frozen=True)
class ProfileReport:
    """What was measured, and where.

    Attributes:
        environment: machine and software.
        seed: of images and of the order of measurement.
        storage: bytes of the package.
        tasks: in the order of the package.
        latencies: by batch, the backbone's first.
    """

    environment: Environment
    seed: int
    storage: PackageStorage
    tasks: tuple[TaskProfile, ...]
    latencies: tuple[GraphLatency, ...]

    def latency(self, task: str | None, batch: int = 1) -> GraphLatency:
        """The measurement of a task's graph, or with None of the bare backbone's, at one batch.

        Raises:
            KeyError: it was not measured.
        """
        for found in self.latencies:
            if (found.task, found.batch) == (task, batch):
                return found
        raise KeyError((task, batch))


def profile_package(
    package: Package,
    *,
    tasks: Sequence[str] | None = None,
    batches: Sequence[int] = (1,),
    rounds: int = DEFAULT_ROUNDS,
    splits: Mapping[str, DecodedSplit] | None = None,
    threads: int | None = None,
    backend: Backend = Backend.ORT_CPU,
    seed: int = 0,
    warm_up: WarmUp | None = None,
    listener: Listener = silent,
) -> ProfileReport:
    """Measures a package in ONNX Runtime.

    All graphs of a batch are measured in one interleaved run, so all of them are in memory at the same time.

    Args:
        package: whose files are measured as they lie.
        tasks: names of those to measure; all by default.
        batches: images at a time, one interleaved run for each.
        rounds: samples of each graph and batch.
        splits: decoded images by the name of the task, for the accuracy of its graph.
        threads: of the runtime; by default it chooses.
        backend: one of ONNX Runtime's.
        seed: of images and of the order of measurement.
        warm_up: when graphs count as warm.
        listener: hears how far it is.

    Raises:
        ConfigError: the package lacks a task, or a number makes no sense.
        ArtifactError: a file of the package is damaged.
        MimiEdgeError: ONNX Runtime is not installed.
    """
    from mimi_edge.export.onnx_runtime import PROVIDERS

    chosen = _chosen(package, tasks, splits or {})
    _check_numbers(batches, rounds)
    environment = current_environment(threads=threads, providers=PROVIDERS[backend])
    storage = package_storage(package)
    sites = _site_names(package)
    read = {name: read_task(package.tasks[name].task_file) for name in chosen}
    graphs: dict[str | None, Run] = {None: _opened(package.backbone_graph, threads, backend)}
    graphs |= {name: _opened(package.tasks[name].graph, threads, backend) for name in chosen}
    profiles = [
        TaskProfile(
            name=name,
            storage=storage.tasks[name],
            neurons={site: read[name].neurons.get(site, 0) for site in sites},
            stored_accuracy=dict(read[name].header.accuracy),
            graph_accuracy=_graph_accuracy(read[name], graphs[name], (splits or {}).get(name), listener),
        )
        for name in chosen
    ]
    turns = _TurnTaking(rounds, seed, warm_up, listener)
    latencies = [
        found for batch in batches for found in _latencies(graphs, _noise(batch, package.input_size, seed), turns)
    ]
    return ProfileReport(environment, seed, storage, tuple(profiles), tuple(latencies))


def report_document(report: ProfileReport) -> dict[str, Any]:
    """The report as JSON has it; see this module's first lines."""
    return {
        "schema": SCHEMA,
        "environment": asdict(report.environment) | {"providers": list(report.environment.providers)},
        "seed": report.seed,
        "storage": asdict(report.storage)
        | {
            "backbone_bytes": report.storage.backbone_bytes,
            "full_models_bytes": report.storage.full_models_bytes,
        },
        "tasks": [_task_document(task) for task in report.tasks],
        "latencies": [_latency_document(latency) for latency in report.latencies],
    }


def report_from_document(document: Mapping[str, Any]) -> ProfileReport:
    """The report that `report_document` made a document of.

    Raises:
        ArtifactError: it is no such document, or of a newer format.
    """
    if not isinstance(schema := document.get("schema"), int) or schema > SCHEMA:
        raise ArtifactError(
            f"This is no report that can be read here: expected schema up to {SCHEMA}, got {schema!r}. "
            "Measure again, or upgrade: pip install --upgrade mimi-edge"
        )
    try:
        environment = document["environment"]
        return ProfileReport(
            environment=Environment(**environment | {"providers": tuple(environment["providers"]), "marks": ()}),
            seed=document["seed"],
            storage=_storage_from(document["storage"]),
            tasks=tuple(_task_from(entry) for entry in document["tasks"]),
            latencies=tuple(_latency_from(entry) for entry in document["latencies"]),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"This report lacks or misspells something ({error!r}). Measure again.") from error


def _chosen(package: Package, tasks: Sequence[str] | None, splits: Mapping[str, DecodedSplit]) -> list[str]:
    chosen = list(package.tasks) if tasks is None else list(dict.fromkeys(tasks))
    unknown = sorted({*chosen, *splits} - set(package.tasks))
    if unknown or not chosen:
        raise ConfigError(
            f"This package has the tasks {', '.join(package.tasks) or 'none'}; "
            f"got {', '.join(unknown) or 'no task'}. Name one of them, or export a task first."
        )
    return chosen


def _check_numbers(batches: Sequence[int], rounds: int) -> None:
    if not batches or min(batches) < 1 or rounds < 1:
        raise ConfigError(f"Expected batches and rounds of at least 1, got batches {list(batches)}, rounds {rounds}.")


def _site_names(package: Package) -> list[str]:
    from mimi_edge.export.graphs import read_graph_info

    return [site.name for site in read_graph_info(package.backbone_graph).sites]


def _opened(graph: Path, threads: int | None, backend: Backend) -> Run:
    from mimi_edge.export.onnx_runtime import open_graph

    return open_graph(graph, threads=threads, backend=backend).run


def _graph_accuracy(task: Task, run: Run, split: DecodedSplit | None, listener: Listener) -> SplitAccuracy | None:
    if split is None:
        return None
    stage = f"accuracy of {task.header.name}"
    return top1_accuracy(run, split, task.header.preprocessing, listener=listener, stage=stage)


def _noise(batch: int, size: int, seed: int) -> Floats:
    """Images [B, 3, S, S] of noise: how long a dense network takes does not depend on what it sees."""
    return np.random.default_rng(seed).standard_normal((batch, 3, size, size), np.float32)


@dataclass(frozen=True)
class _TurnTaking:
    """How graphs are measured in turns."""

    rounds: int
    seed: int
    warm_up: WarmUp | None
    listener: Listener


def _latencies(graphs: Mapping[str | None, Run], images: Floats, turns: _TurnTaking) -> Iterator[GraphLatency]:
    """One interleaved run of all graphs on the same images; the backbone's is called None and comes first."""
    batch = len(images)
    # Positions for names: a task may be called anything.
    runnables = {str(index): partial(run, images) for index, run in enumerate(graphs.values())}
    measured = measure(
        runnables,
        rounds=turns.rounds,
        seed=turns.seed,
        warm_up=turns.warm_up,
        listener=turns.listener,
        stage=f"latency, batch {batch}",
    )
    backbone = measured["0"]
    if not backbone.settled:
        turns.listener(Note(f"Batch {batch}: the warm-up ended before latencies were steady. The machine is busy."))
    for task, samples in zip(graphs, measured.values(), strict=True):
        ratio = None if task is None else ratio_of_medians(samples.latency_ns, backbone.latency_ns, seed=turns.seed)
        yield GraphLatency(task, batch, samples, ratio)


def _task_document(task: TaskProfile) -> dict[str, Any]:
    return {
        "name": task.name,
        **asdict(task.storage),
        "neurons": dict(task.neurons),
        "stored_accuracy": {split: asdict(value) for split, value in task.stored_accuracy.items()},
        "graph_accuracy": None if task.graph_accuracy is None else asdict(task.graph_accuracy),
    }


def _task_from(entry: Mapping[str, Any]) -> TaskProfile:
    graph_accuracy = entry["graph_accuracy"]
    return TaskProfile(
        name=entry["name"],
        storage=TaskStorage(entry["task_file_bytes"], entry["graph_bytes"]),
        neurons=dict(entry["neurons"]),
        stored_accuracy={split: SplitAccuracy(**value) for split, value in entry["stored_accuracy"].items()},
        graph_accuracy=None if graph_accuracy is None else SplitAccuracy(**graph_accuracy),
    )


def _latency_document(latency: GraphLatency) -> dict[str, Any]:
    return {
        "task": latency.task,
        "batch": latency.batch,
        "summary": asdict(latency.summary),
        "ratio": None if latency.ratio is None else asdict(latency.ratio),
        "latency_ns": list(latency.samples.latency_ns),
        "warm_up_ns": list(latency.samples.warm_up_ns),
        "settled": latency.samples.settled,
    }


def _latency_from(entry: Mapping[str, Any]) -> GraphLatency:
    return GraphLatency(
        task=entry["task"],
        batch=entry["batch"],
        samples=Samples(tuple(entry["latency_ns"]), tuple(entry["warm_up_ns"]), entry["settled"]),
        ratio=None if entry["ratio"] is None else Ratio(**entry["ratio"]),
    )


def _storage_from(entry: Mapping[str, Any]) -> PackageStorage:
    return PackageStorage(
        backbone_graph_bytes=entry["backbone_graph_bytes"],
        backbone_weights_bytes=entry["backbone_weights_bytes"],
        package_bytes=entry["package_bytes"],
        tasks={name: TaskStorage(**task) for name, task in entry["tasks"].items()},
    )
