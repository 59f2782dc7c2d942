"""Builds engines for a package's tasks, proves them where a GPU is, and only then puts them on the package's shelf."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

import mimi_edge
from mimi_edge.choices import Backend, Precision, Strategy
from mimi_edge.errors import ConfigError, MimiEdgeError
from mimi_edge.events import Listener, Note, silent
from mimi_edge.export.engine_graphs import engine_graph
from mimi_edge.export.engines.attention import made_for_attention
from mimi_edge.export.engines.bindings import Bindings, load_bindings
from mimi_edge.export.engines.building import BuiltEngine, build_engine
from mimi_edge.export.engines.cuda import Cuda, open_cuda, why_no_gpu
from mimi_edge.export.engines.drafts import Draft, TypedGraph, drafted, typed
from mimi_edge.export.engines.proofs import proof_of
from mimi_edge.export.engines.requests import BatchRange, BuildRequest
from mimi_edge.export.engines.shelf import SUFFIX, ShelvedEngine, engine_name, publish
from mimi_edge.export.engines.sidecars import Sidecar, unproved_note
from mimi_edge.export.engines.timing_caches import timing_cache_file
from mimi_edge.export.graphs import read_graph_info
from mimi_edge.export.packages import Package
from mimi_edge.export.precision.half import FP32_OPERATORS
from mimi_edge.export.shared.layout import Spare, layout_document
from mimi_edge.files import sha256_of
from mimi_edge.images.decoding import LabelledImages
from mimi_edge.tasks.task import Task

MOST_RESIDENT_TASKS = 256
"""Tasks that the bank of a mixed engine can hold; memory is taken for those that are there."""


def _none() -> None:
    return None


@dataclass(frozen=True)
class TaskImages:
    """Images of one task, decoded when they are asked for; each may be nothing.

    Attributes:
        training: some of the training images, [n, S, S, 3]: for overflow and calibration.
        validation: the validation split: whether INT8 is good enough.
        test: the test split: for the report of the proof, and nothing else.
    """

    training: Callable[[], NDArray[np.uint8] | None] = _none
    validation: Callable[[], LabelledImages | None] = _none
    test: Callable[[], LabelledImages | None] = _none


ImagesOf = Callable[[str], TaskImages]


def no_images(_task: str) -> TaskImages:
    """Nothing to look at."""
    return TaskImages()


@dataclass(frozen=True)
class EngineOptions:
    """What kind of engines are wanted.

    Attributes:
        precision: to compute in.
        strategy: how engines serve tasks.
        batch: images at a time; of a mixed engine, frames and answers at a time.
        mixed: shared: each answer names its own task and frame.
        spare_neurons: shared, refit: room at each site that is used, beyond the widest task.
        spare_classes: shared, refit: room beyond the task with most classes.
        backend: TensorRT or TensorRT for RTX; None takes what is installed.
        compute_capabilities: of TensorRT for RTX: GPUs to build for that are not here.
        max_accuracy_drop: INT8: largest loss on the validation split, as a share.
    """

    precision: Precision = Precision.FP16
    strategy: Strategy = Strategy.PER_TASK
    batch: BatchRange = field(default_factory=lambda: BatchRange(1, 1, 8))
    mixed: bool = False
    spare_neurons: int = 0
    spare_classes: int = 0
    backend: Backend | None = None
    compute_capabilities: tuple[str, ...] = ()
    max_accuracy_drop: float = 0.01

    def __post_init__(self) -> None:
        if faults := self._faults():
            listed = "\n".join(f"  - {fault}" for fault in faults)
            raise ConfigError(f"Engines cannot be built like this:\n{listed}\nChange one of each pair.")

    def _faults(self) -> list[str]:
        faults = []
        if self.mixed and self.strategy is not Strategy.SHARED:
            faults.append(f"mixed batches need strategy shared, got {self.strategy.value}")
        if (self.spare_neurons or self.spare_classes) and self.strategy is Strategy.PER_TASK:
            faults.append("room for other tasks needs strategy shared or refit; an engine per task holds one task")
        if self.precision is Precision.INT8 and self.strategy is not Strategy.PER_TASK:
            faults.append(f"int8 is calibrated for one task, so it needs strategy per-task, not {self.strategy.value}")
        return faults

    def ranges(self, tasks: int) -> dict[str, BatchRange]:
        """Sizes of every dimension that varies, by its name in the graph, for an engine of so many tasks."""
        if not self.mixed:
            return {"batch": self.batch}
        batch = self.batch
        # All tasks about one frame is what mixed batches are for.
        answers = BatchRange(batch.smallest, max(batch.best, tasks), max(batch.largest, tasks))
        resident = BatchRange(1, tasks, max(tasks, MOST_RESIDENT_TASKS))
        return {"frames": batch, "answers": answers, "tasks": resident}


@dataclass(frozen=True)
class Machine:
    """What engines are built with and for.

    Attributes:
        bindings: of TensorRT.
        cuda: the GPU that is here, None without one.
        no_gpu: why there is none.
    """

    bindings: Bindings
    cuda: Cuda | None
    no_gpu: str | None


def export_engines(
    package: Package,
    options: EngineOptions,
    *,
    tasks: Sequence[str] | None = None,
    images: ImagesOf = no_images,
    speed: Callable[..., Any] | None = None,
    threads: int | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    listener: Listener = silent,
) -> list[ShelvedEngine]:
    """Builds engines and puts those that answer right on the package's shelf; the others never appear there.

    Args:
        package: whose tasks to build for.
        options: what kind of engines.
        tasks: names; None is all of the package.
        images: gives each task's images.
        speed: times two functions in turns and gives the ratio of their medians; INT8 is compared with fp16 by it.
        threads: of ONNX Runtime.
        should_stop: asked after each step of a build.
        listener: hears how far it is.

    Returns:
        One engine a task, or one for all.

    Raises:
        EngineBuildError: TensorRT cannot build an engine.
        ExportMismatchError: an engine does not answer what its graph answers; it was not published.
        ConfigError: there is no such task, or what was asked for contradicts itself.
        MimiEdgeError: TensorRT, its libraries or the driver are missing.
        StoppedError: `should_stop` said so; engines that were finished stay.
    """
    names = [package.task(name).name for name in (package.tasks if tasks is None else dict.fromkeys(tasks))]
    if not names:
        raise ConfigError(f"{package.folder} has no tasks. Export one first: mimi-edge export --format onnx")
    machine = _machine(options)
    jobs = [[name] for name in names] if options.strategy is Strategy.PER_TASK else [names]
    made = []
    for job in jobs:
        work = EngineWork(package, options, machine, images, speed, threads, should_stop, listener)
        made.append(work.export(job))
    return made


def _machine(options: EngineOptions) -> Machine:
    bindings = load_bindings(options.backend)
    no_gpu = why_no_gpu()
    if no_gpu is not None and not bindings.capabilities():
        raise MimiEdgeError(f"{bindings.name} builds engines on the GPU that they are for. {no_gpu}")
    if no_gpu is not None and bindings.capabilities() and not options.compute_capabilities:
        raise ConfigError(
            f"{bindings.name} has no GPU here that it could build an engine for. {no_gpu}\n"
            "It can also build for the GPU of another machine, given the compute capability of that: "
            f"--compute-capability {bindings.capabilities()[-1]}, for instance; it knows "
            f"{', '.join(bindings.capabilities())}."
        )
    return Machine(bindings, None if no_gpu is not None else open_cuda(), no_gpu)


@dataclass(frozen=True)
class Made:
    """An engine that was built and proved, and is published nowhere yet.

    Attributes:
        draft: what it was made from.
        graph: in the precision of the engine.
        built: the engine.
        check: what the proof found, for the sidecar.
    """

    draft: Draft
    graph: TypedGraph
    built: BuiltEngine
    check: Mapping[str, Any]


@dataclass(frozen=True)
class EngineWork:
    """What every job of one export has at hand."""

    package: Package
    options: EngineOptions
    machine: Machine
    images: ImagesOf
    speed: Callable[..., Any] | None
    threads: int | None
    should_stop: Callable[[], bool]
    listener: Listener

    def export(self, names: Sequence[str]) -> ShelvedEngine:
        """Builds, proves and publishes the engine of these tasks."""
        options = self.options
        label = engine_name(
            options.strategy,
            options.precision,
            names[0] if options.strategy is Strategy.PER_TASK else None,
            mixed=options.mixed,
        )
        made = made_for_attention(self, names, label)
        built, sidecar = made.built, self._sidecar(label, made)
        self.listener(Note(f"Built {label}: {built.size_bytes:,} bytes in {built.seconds:.1f} s."))
        if sidecar.unproved is not None:
            self.listener(Note(unproved_note(label, sidecar.unproved)))
        return publish(self.package.folder, sidecar, built.write)

    def made(
        self,
        names: Sequence[str],
        label: str,
        fp32_operators: Mapping[str, str] = FP32_OPERATORS,
        *,
        looked_at: TypedGraph | None = None,
    ) -> Made:
        """The engine of these tasks, built and proved.

        Args:
            names: of the tasks.
            label: how messages call it.
            fp32_operators: that stay in fp32 whatever the precision, with the reason.
            looked_at: a graph of the same tasks for which overflow was looked for already.

        Raises:
            ExportMismatchError: it does not answer what the tasks' graphs answer.
        """
        draft = self.draft(names)
        graph = self.typed(draft, fp32_operators, looked_at=looked_at)
        built = self.built(draft, graph, label)
        return Made(draft, graph, built, proof_of(self, draft, graph, built))

    def draft(self, names: Sequence[str]) -> Draft:
        """The fp32 graph of the engine of these tasks."""
        options = self.options
        sites = read_graph_info(self.package.backbone_graph).sites
        return drafted(
            self.package,
            names,
            options.strategy,
            mixed=options.mixed,
            spare=Spare(options.spare_neurons, options.spare_classes, sites if options.spare_neurons else ()),
            backend=self.machine.bindings.backend,
            precision=options.precision,
        )

    def typed(
        self,
        draft: Draft,
        fp32_operators: Mapping[str, str] = FP32_OPERATORS,
        *,
        looked_at: TypedGraph | None = None,
    ) -> TypedGraph:
        """The draft's graph in the number formats that were asked for; the draft's model is used up."""
        names = [task.header.name for task in draft.tasks]
        wanted = names if self.options.precision in {Precision.FP16, Precision.INT8} else ()
        training = {name: some for name in wanted if (some := self.images(name).training()) is not None}
        return typed(
            draft,
            self.package,
            self.options.precision,
            training,
            fp32_operators=fp32_operators,
            looked_at=looked_at,
            threads=self.threads,
            listener=self.listener,
        )

    def built(self, draft: Draft, graph: TypedGraph, label: str, marked: tuple[str, ...] = ()) -> BuiltEngine:
        """The engine, in memory; with some values as outputs too."""
        machine, options = self.machine, self.options
        where = machine.cuda.device.name if machine.cuda is not None else "sm " + " ".join(options.compute_capabilities)
        with engine_graph(graph.model, self.package.folder) as path:
            request = BuildRequest(
                path,
                ranges=options.ranges(len(draft.tasks)),
                refittable=graph.refittable,
                marked=marked,
                compute_capabilities=options.compute_capabilities,
                layer_details=True,  # the names of kernels: whether attention was fused
                label=label,
            )
            return build_engine(
                machine.bindings,
                request,
                timing_cache=timing_cache_file(machine.bindings, where),
                listener=self.listener,
                should_stop=self.should_stop,
            )

    def _sidecar(self, label: str, made: Made) -> Sidecar:
        options, machine = self.options, self.machine
        draft, graph, built, check = made.draft, made.graph, made.built, made.check
        device = None if machine.cuda is None else machine.cuda.device
        here = () if device is None else (".".join(map(str, device.compute_capability)),)
        return Sidecar(
            engine=label + SUFFIX,
            sha256=built.sha256,
            size_bytes=built.size_bytes,
            backend=machine.bindings.backend,
            version=machine.bindings.version,
            gpu=None if device is None or options.compute_capabilities else device.name,
            compute_capabilities=options.compute_capabilities or here,
            cuda=None if device is None else device.runtime_cuda,
            precision=options.precision,
            strategy=options.strategy,
            mixed=options.mixed,
            ranges=options.ranges(len(draft.tasks)),
            tensors=built.tensors,
            tasks={task.header.name: self._task_sha256(task) for task in draft.tasks},
            backbone_sha256=self.package.backbone.sha256,
            layout=None if draft.layout is None else layout_document(draft.layout),
            kept_fp32={layer.name: layer.reason for layer in graph.kept},
            passes=draft.passes,
            prefix_blocks=draft.saved_blocks,
            build_seconds=built.seconds,
            timing_cache=built.timing_cache.value,
            check={"overflow_looked_for_on": graph.looked_at, **check},
            mimi_edge=mimi_edge.__version__,
        )

    def _task_sha256(self, task: Task) -> str:
        return sha256_of(self.package.task(task.header.name).task_file)
