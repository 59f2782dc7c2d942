"""What engines are asked for, and what every engine of one export is made with: drafts, number formats, builds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimi_edge.choices import Backend, Precision, Strategy
from mimi_edge.errors import ConfigError
from mimi_edge.events import Listener
from mimi_edge.export.engine_graphs import engine_graph
from mimi_edge.export.engines.building.build import BuiltEngine, build_engine
from mimi_edge.export.engines.building.drafts import Draft, TypedGraph, drafted, typed
from mimi_edge.export.engines.building.requests import BatchRange, BuildRequest
from mimi_edge.export.engines.building.timing_caches import timing_cache_file
from mimi_edge.export.engines.running.cuda import Cuda
from mimi_edge.export.engines.tensorrt.bindings import Bindings
from mimi_edge.export.graphs import read_graph_info
from mimi_edge.export.open_packages import Package
from mimi_edge.export.precision.half import FP32_OPERATORS
from mimi_edge.export.shared.layout import Spare
from mimi_edge.images.decode import LabelledImages
from mimi_edge.texts import fault_list

MOST_RESIDENT_TASKS = 256
"""Tasks that the bank of a mixed engine can hold; memory is taken for those that are there."""


def _none() -> None:
    return None


@dataclass(frozen=True)
class TaskImages:
    """Images of one task, decoded when they are asked for; each may be nothing.

    Attributes:
        training: some of the training images, [n, H, W, 3]: for overflow and calibration.
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
            raise ConfigError(f"Engines cannot be built like this:\n{fault_list(faults)}\nChange one of each pair.")

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
