"""The ledger of a package: real files where there are any, sizes worked out from them where there are none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from mimi_edge.choices import Precision, Strategy
from mimi_edge.errors import ArtifactError, ConfigError
from mimi_edge.methods.strategies import why_not_shared
from mimi_edge.profiles.inventory import (
    ADAPTERS,
    ADAPTERS_SHARED,
    GRAPHS,
    MANIFEST,
    TASKS,
    adapters_inventory,
    empty_manifest_bytes,
    package_inventory,
)
from mimi_edge.profiles.ledger import (
    COMPUTED,
    ESTIMATE,
    FILES,
    FULL_GRAPHS,
    FULL_MODELS,
    LINEAR_PROBES,
    MEASURED,
    ONNX_PACKAGE,
    ORT_ADAPTERS,
    Cost,
    Ledger,
    Line,
)
from mimi_edge.profiles.report_comparison import memory_bytes
from mimi_edge.tasks.descriptions import settings_of
from mimi_edge.tasks.files import read_outline
from mimi_edge.tasks.sizes import size_bytes
from mimi_edge.tasks.stores import Store
from mimi_edge.tasks.task import Task

if TYPE_CHECKING:
    from mimi_edge.export.engines.shelf.shelf import ShelvedEngine
    from mimi_edge.export.open_packages import Package
    from mimi_edge.export.ort_adapters import OrtAdapterSet
    from mimi_edge.profiles.reports import MeasuredArtefact, Report

BACKBONE = "backbone"
FP32_BYTES = 4
BYTES_OF = {Precision.FP32: 4, Precision.FP16: 2, Precision.BF16: 2, Precision.INT8: 1}
TITLES = {
    Strategy.PER_TASK: "an engine per task",
    Strategy.SHARED: "one engine for all",
    Strategy.REFIT: "one engine, refitted",
}
STORED_WITH_ENGINES = "Engine, its sidecar and the task files; not the package it was built from."


@dataclass(frozen=True)
class ProcessMemory:
    """What processes were seen to hold above their runtime's floor, in bytes.

    Attributes:
        backbone_bytes: with the bare backbone; None where it was not measured.
        by_strategy: with one task ready to answer, by the name of the strategy (`onnx-package`, `shared.fp16`, ...).
    """

    backbone_bytes: int | None = None
    by_strategy: Mapping[str, int] = field(default_factory=dict)


NOTHING_MEASURED = ProcessMemory()


@dataclass(frozen=True)
class _Parts:
    """Sizes in bytes that the strategies are made of; those of tasks are of all tasks together.

    Attributes:
        tasks: how many there are.
        graph: of the bare backbone.
        weights: of the backbone.
        manifest: of a package without a task.
        package_tasks: what the tasks add to the package: files, merged graphs, their part of the manifest.
        task_files: of the tasks.
        merged_graphs: without weights.
        probe_files: task files if they held a head and no adapter.
        weights_in_memory: of the tasks, adapters and heads, in fp32.
        heads: in fp32.
        padded: tensors of one task in fp32, as wide as the widest task needs.
        stored_tensors: of the tasks, in the number format that ONNX Runtime's adapters have.
        why_not_shared: why one graph cannot serve all of them; None where it can.
    """

    tasks: int
    graph: int
    weights: int
    manifest: int
    package_tasks: int
    task_files: int
    merged_graphs: int
    probe_files: int
    weights_in_memory: int
    heads: int
    padded: int
    stored_tensors: int
    why_not_shared: str | None = None

    @property
    def backbone(self) -> int:
        """Graph and weights."""
        return self.graph + self.weights


def fleet_ledger(
    package: Package,
    *,
    adapters: OrtAdapterSet | None = None,
    precision: Precision = Precision.FP16,
    measured: ProcessMemory = NOTHING_MEASURED,
) -> Ledger:
    """What many tasks like those of a package take under each strategy.

    Args:
        package: whose files, and whose shelf of engines, are looked at.
        adapters: the same tasks for ONNX Runtime, if they were exported.
        precision: of engines that are not on the shelf.
        measured: memory, where a report has it.

    Raises:
        ArtifactError: a file is damaged, or the adapters are of another backbone.
        ConfigError: the package has no task.
        OSError: a folder cannot be read.
    """
    from mimi_edge.export.engines.shelf.shelf import read_shelf

    if not package.tasks:
        raise ConfigError(f"{package.folder} has no task, so there is nothing to add up. Export one into it first.")
    if adapters is not None and adapters.backbone.sha256 != package.backbone.sha256:
        raise ArtifactError(
            f"{adapters.folder} is of the backbone {adapters.backbone}, {package.folder} of {package.backbone}. "
            "Give those of one backbone."
        )
    files = package_inventory(package)
    parts = _parts(package, files)
    shelf = [engine for engine in read_shelf(package.folder).values() if engine.stale is None]
    lines = (
        *_compared_with(parts, measured),
        _onnx_package(parts, measured),
        *([] if parts.why_not_shared else [_ort_adapters(parts, adapters)]),
        *_engine_lines(parts, shelf, precision, measured),
    )
    found = files if adapters is None else files | adapters_inventory(adapters)
    return Ledger(package.backbone.name, tuple(package.tasks), found, lines)


def measured_memory(report: Report) -> ProcessMemory:
    """What a report's artefacts took above the runtime's floor, host and device together, averaged over tasks."""
    unified = bool((report.environment.board or {}).get("unified_memory"))
    found: dict[str, list[int]] = {}
    for artefact in report.artefacts:
        name = _strategy_of(artefact)
        size = memory_bytes(artefact, unified)
        if name is not None and size is not None and artefact.failure is None:
            found.setdefault(name, []).append(size)
    means = {name: round(sum(sizes) / len(sizes)) for name, sizes in found.items()}
    return ProcessMemory(means.pop(BACKBONE, None), means)


def _strategy_of(artefact: MeasuredArtefact) -> str | None:
    """Which strategy's memory an artefact's process shows."""
    if artefact.kind == "engine" and artefact.strategy:
        return f"{artefact.strategy}.{artefact.precision}"
    if artefact.kind == "task" and artefact.backend.startswith("ort-"):
        return ONNX_PACKAGE
    return BACKBONE if artefact.kind == BACKBONE else None


def _parts(package: Package, files: Mapping[str, int]) -> _Parts:
    tasks = [read_outline(task.task_file) for task in package.tasks.values()]
    manifest = min(empty_manifest_bytes(package), files[MANIFEST])
    store = Store.FP16 if all(task.header.store is Store.FP16 for task in tasks) else Store.FP32
    weights = sum(task.numbers for task in tasks)
    return _Parts(
        tasks=len(tasks),
        graph=package.backbone_graph.stat().st_size,
        weights=package.backbone_weights.stat().st_size,
        manifest=manifest,
        package_tasks=files[TASKS] + files[GRAPHS] + files[MANIFEST] - manifest,
        task_files=files[TASKS],
        merged_graphs=files[GRAPHS],
        probe_files=sum(size_bytes(task.header, {}) for task in tasks),
        weights_in_memory=FP32_BYTES * weights,
        heads=FP32_BYTES * sum(map(_head_weights, tasks)),
        padded=FP32_BYTES * _padded_weights(tasks),
        stored_tensors=store.weight_dtype.itemsize * weights,
        why_not_shared=next(filter(None, map(_why_not_shared, tasks)), None),
    )


def _why_not_shared(task: Task) -> str | None:
    reason = why_not_shared(*settings_of(task.header))
    return None if reason is None else f"{task.header.name} is of {task.header.method.name}: {reason}"


def _head_weights(task: Task) -> int:
    return len(task.header.classes) * (task.header.backbone.features + 1)


def _padded_weights(tasks: Sequence[Task]) -> int:
    """Numbers of a task in an engine for all: at each site as many neurons as any task has, and classes likewise."""
    widths = {site: width for task in tasks for site, width in task.widths.items()}
    adapters = sum(2 * width * max(task.neurons.get(site, 0) for task in tasks) for site, width in widths.items())
    return adapters + max(map(_head_weights, tasks))


def _compared_with(parts: _Parts, measured: ProcessMemory) -> Iterator[Line]:
    """What people do without adapters, or without sharing."""
    tasks, copies = parts.tasks, parts.tasks * parts.weights
    backbone = measured.backbone_bytes
    full_storage = Cost(0, tasks * parts.backbone + parts.heads, tasks, COMPUTED)
    estimate = Cost(0, copies + parts.heads, tasks, ESTIMATE)
    full_memory = estimate if backbone is None else Cost(0, tasks * backbone + parts.heads, tasks, MEASURED)
    note = "A fine-tuned copy of the backbone per task."
    yield Line(FULL_MODELS, "full models", full_storage, full_memory, note, estimate)
    graphs = parts.merged_graphs + copies + parts.task_files
    yield Line(
        FULL_GRAPHS,
        "adapters, each in a graph of its own",
        Cost(0, graphs, tasks, COMPUTED),
        _sessions(parts, measured),
        "Every task a whole ONNX model that stands alone.",
        _sessions(parts, NOTHING_MEASURED),
    )
    probes = parts.probe_files + tasks * parts.graph
    estimate = Cost(parts.weights, parts.heads, tasks, ESTIMATE)
    yield Line(
        LINEAR_PROBES,
        "linear probes",
        Cost(parts.backbone + parts.manifest, probes, tasks, COMPUTED),
        estimate if backbone is None else Cost(backbone, parts.heads, tasks, MEASURED),
        "The frozen backbone and a head per task: the least one can do, at another accuracy.",
        estimate,
    )


def _sessions(parts: _Parts, measured: ProcessMemory) -> Cost:
    """Memory of a session of the runtime for each task, all open."""
    if (one := measured.by_strategy.get(ONNX_PACKAGE)) is not None:
        return Cost(0, one, 1, MEASURED)
    return Cost(0, parts.tasks * parts.weights + parts.weights_in_memory, parts.tasks, ESTIMATE)


def _onnx_package(parts: _Parts, measured: ProcessMemory) -> Line:
    return Line(
        ONNX_PACKAGE,
        "ONNX package",
        Cost(parts.backbone + parts.manifest, parts.package_tasks, parts.tasks, FILES),
        _sessions(parts, measured),
        "Shared on disk; in memory every open session has its own copy of the weights."
        + (f" One graph for all tasks is not possible: {parts.why_not_shared}." if parts.why_not_shared else ""),
        _sessions(parts, NOTHING_MEASURED),
    )


def _ort_adapters(parts: _Parts, adapters: OrtAdapterSet | None) -> Line:
    if adapters is None:
        # A graph with adapters is about as large as the merged graphs are on average.
        shared = parts.weights + parts.merged_graphs // parts.tasks
        storage = Cost(shared, parts.stored_tensors, parts.tasks, COMPUTED)
    else:
        files = adapters_inventory(adapters)
        storage = Cost(files[ADAPTERS_SHARED], files[ADAPTERS], len(adapters.tasks), FILES)
    memory = Cost(parts.weights, parts.stored_tensors, parts.tasks, ESTIMATE)
    note = "One session; a task is active for a run."
    return Line(ORT_ADAPTERS, "ONNX Runtime adapters", storage, memory, note, memory)


def _with_first_task(one_task: int | None, estimated: Cost) -> Cost:
    """What was measured with one task, and what each further one adds."""
    if one_task is None:
        return estimated
    shared = max(0, one_task - round(estimated.bytes_per_task))
    return Cost(shared, estimated.tasks_bytes, estimated.tasks, MEASURED)


def _engine_lines(
    parts: _Parts, shelf: Sequence[ShelvedEngine], precision: Precision, measured: ProcessMemory
) -> Iterator[Line]:
    """What is on the shelf, then what is not, in the precision that was asked for."""
    ordered = sorted(shelf, key=_kind_of)
    kinds = {kind: list(engines) for kind, engines in groupby(ordered, key=_kind_of)}
    for strategy in Strategy:
        built = [(kind, engines) for kind, engines in kinds.items() if engines[0].sidecar.strategy is strategy]
        for kind, engines in built:
            yield _built(parts, kind, engines, measured)
        if not built and (strategy is Strategy.PER_TASK or parts.why_not_shared is None):
            yield _not_built(parts, strategy, precision, measured)


def _kind_of(engine: ShelvedEngine) -> str:
    """Engines of one strategy and precision belong together, whichever task each is of."""
    from mimi_edge.export.engines.shelf.shelf import engine_name

    sidecar = engine.sidecar
    return engine_name(sidecar.strategy, sidecar.precision, mixed=sidecar.mixed)


def _built(parts: _Parts, kind: str, engines: Sequence[ShelvedEngine], measured: ProcessMemory) -> Line:
    sidecar = engines[0].sidecar
    files = sum(_engine_bytes(engine) for engine in engines)
    plans = sum(engine.sidecar.size_bytes for engine in engines)
    if sidecar.strategy is Strategy.PER_TASK:
        task_files = len(engines) * parts.task_files // parts.tasks
        storage = Cost(0, files + task_files, len(engines), FILES)
        memory = Cost(0, plans, len(engines), ESTIMATE)
    else:
        storage = Cost(files, parts.task_files, parts.tasks, FILES)
        memory = Cost(plans, _resident(parts, sidecar.precision), 1, ESTIMATE)
    return _engine_line(kind, sidecar.strategy, sidecar.precision, storage, memory, measured)


def _engine_bytes(engine: ShelvedEngine) -> int:
    """Engine and sidecar as they lie."""
    from mimi_edge.export.engines.shelf.sidecars import sidecar_name

    beside: Path = engine.path.with_name(sidecar_name(engine.path.name))
    return engine.path.stat().st_size + beside.stat().st_size


def _resident(parts: _Parts, precision: Precision) -> int:
    """A task's padded tensors beside an engine; int8 engines take them in fp16."""
    return parts.padded * max(2, BYTES_OF[precision]) // FP32_BYTES


def _not_built(parts: _Parts, strategy: Strategy, precision: Precision, measured: ProcessMemory) -> Line:
    from mimi_edge.export.engines.shelf.shelf import engine_name

    weights = parts.weights * BYTES_OF[precision] // FP32_BYTES
    if strategy is Strategy.PER_TASK:
        plans = parts.tasks * weights + parts.weights_in_memory * BYTES_OF[precision] // FP32_BYTES
        storage = Cost(0, plans + parts.task_files, parts.tasks, COMPUTED)
        memory = Cost(0, plans, parts.tasks, ESTIMATE)
    else:
        plan = weights + (_resident(parts, precision) if strategy is Strategy.REFIT else 0)
        storage = Cost(plan, parts.task_files, parts.tasks, COMPUTED)
        memory = Cost(plan, _resident(parts, precision), 1, ESTIMATE)
    return _engine_line(engine_name(strategy, precision), strategy, precision, storage, memory, measured)


def _engine_line(
    kind: str, strategy: Strategy, precision: Precision, storage: Cost, memory: Cost, measured: ProcessMemory
) -> Line:
    one_task, estimate = measured.by_strategy.get(kind), memory
    if one_task is not None and strategy is Strategy.PER_TASK:
        memory = Cost(0, one_task, 1, MEASURED)
    elif one_task is not None:
        memory = _with_first_task(one_task, memory)
    mixed = ", mixed batches" if kind.startswith(f"{Strategy.SHARED.value}-mixed") else ""
    note = STORED_WITH_ENGINES if storage.basis == FILES else f"{STORED_WITH_ENGINES} Weights alone: plans are larger."
    return Line(kind, f"{TITLES[strategy]}, {precision.value}{mixed}", storage, memory, note, estimate)
