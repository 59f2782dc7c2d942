"""From a package's graphs to the one that an engine is built from: by strategy, then by precision."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mimi_edge.choices import Backend, Precision, Strategy
from mimi_edge.errors import ConfigError
from mimi_edge.events import Listener, Note, silent
from mimi_edge.export.engine_graphs import engine_graph
from mimi_edge.export.graphs import load_graph
from mimi_edge.export.onnx_runtime import runtime_version
from mimi_edge.export.packages import Package
from mimi_edge.export.precision.half import KeptLayer, to_half
from mimi_edge.export.precision.quantise import quantised_model
from mimi_edge.export.precision.ranges import overflowing, value_ranges
from mimi_edge.export.shared.inputs import FRAME_OF_ANSWER, TASK_OF_ANSWER, bank_of, task_tensors
from mimi_edge.export.shared.layout import NO_SPARE, SharedLayout, Spare, layout_of
from mimi_edge.export.tuning import MIXES_TASK_INTO_BACKBONE, default_passes, tune
from mimi_edge.files import MEGABYTE
from mimi_edge.images.preprocessing import normalise
from mimi_edge.parts import CPU, install_line
from mimi_edge.tasks.files import read_task
from mimi_edge.tasks.stores import Floats
from mimi_edge.tasks.task import Task

if TYPE_CHECKING:
    import onnx_ir as ir

PROTOBUF_LIMIT_BYTES = 1900 * MEGABYTE
IMAGES_AT_ONCE = 8
"""A mixed graph answers them all in one pass, for each has its own place in the batch."""


@dataclass(frozen=True)
class Draft:
    """The fp32 graph of an engine, in memory; its weights lie in the package.

    Attributes:
        model: changed by whoever makes the engine.
        tasks: that the engine is for.
        strategy: how it serves them.
        layout: how they are padded, None for an engine of one task.
        mixed: each answer names its own task.
        saved_blocks: blocks that run once for each frame instead of once for each answer.
        passes: that changed the graph.
    """

    model: ir.Model
    tasks: tuple[Task, ...]
    strategy: Strategy
    layout: SharedLayout | None
    mixed: bool
    saved_blocks: int
    passes: tuple[str, ...]

    def feeds(self, task: int, images: int) -> dict[str, NDArray[Any]]:
        """What goes in beside so many images when all of them are answered by one of the tasks."""
        if self.layout is None:
            return {}
        if not self.mixed:
            return dict(task_tensors(self.tasks[task], self.layout))
        return {
            **bank_of(self.tasks, self.layout),
            FRAME_OF_ANSWER: np.arange(images, dtype=np.int32),
            TASK_OF_ANSWER: np.full(images, task, np.int32),
        }


@dataclass(frozen=True)
class TypedGraph:
    """A graph in the number formats that an engine computes in.

    Attributes:
        model: of which the weights that no pass changed lie in the package.
        kept: layers that stay in fp32.
        looked_at: which images were looked at for overflow or calibrated on, in words.
        refittable: names of the weights that a refittable engine takes other values for.
    """

    model: ir.Model
    kept: tuple[KeptLayer, ...]
    looked_at: str
    refittable: frozenset[str] = field(default=frozenset())


def drafted(
    package: Package,
    names: Sequence[str],
    strategy: Strategy,
    *,
    mixed: bool = False,
    spare: Spare = NO_SPARE,
    backend: Backend = Backend.TRT,
    precision: Precision = Precision.FP32,
) -> Draft:
    """The graph of an engine for tasks of a package.

    Args:
        package: that holds them.
        names: of the tasks; one, where each gets an engine of its own.
        strategy: how the engine serves them.
        mixed: of the shared strategy: each answer names its own task.
        spare: of the shared and the refit strategy: room for tasks to come.
        backend: that the graph passes are chosen for.
        precision: likewise; INT8 leaves the task's weights by themselves, because they are not quantised.

    Raises:
        ArtifactError: a file of the package is damaged, or has what TensorRT does not know.
        ConfigError: the tasks cannot share a graph, or the options contradict each other.
    """
    from mimi_edge.export.shared.graph import shared_model

    tasks = tuple(read_task(package.task(name).task_file) for name in names)
    chosen = default_passes(backend, strategy)
    if precision is Precision.INT8:
        chosen = tuple(name for name in chosen if name not in MIXES_TASK_INTO_BACKBONE)
    if strategy is Strategy.PER_TASK:
        if mixed or len(tasks) != 1:
            raise ConfigError("An engine per task holds one task; for several in one, use --strategy shared.")
        model = load_graph(package.task(names[0]).graph)
        return Draft(model, tasks, strategy, None, False, 0, tune(model, chosen))
    if mixed and strategy is Strategy.REFIT:
        raise ConfigError("A refittable engine holds one task at a time; for mixed batches, use --strategy shared.")
    layout = layout_of(tasks, spare=spare)
    shared = shared_model(package.backbone_graph, layout, mixed=mixed)
    return Draft(shared.model, tasks, strategy, layout, mixed, shared.saved_blocks, tune(shared.model, chosen))


def typed(
    draft: Draft,
    package: Package,
    precision: Precision,
    images: Mapping[str, NDArray[np.uint8]],
    *,
    threads: int | None = None,
    listener: Listener = silent,
) -> TypedGraph:
    """Puts the number formats of a precision into a draft's graph, after looking at real images.

    Args:
        draft: whose model is used up.
        package: where its weights lie.
        precision: to compute in.
        images: by the name of the task, some of its training images, [n, S, S, 3] as `fit` makes them.
        threads: of ONNX Runtime, which looks at them.
        listener: hears how far it is, and what could not be looked at.

    Raises:
        ConfigError: INT8 for several tasks, or without training images.
        MimiEdgeError: INT8 without ONNX Runtime.
    """
    normalised = _normalised(draft, images)
    if precision is Precision.INT8:
        model, kept = _quantised(draft, package, normalised, threads, listener)
        looked_at = _in_words(normalised)
    else:
        overflow, looked_at = _overflow(draft, package, precision, normalised, threads, listener)
        model, kept = draft.model, to_half(draft.model, precision, overflow)
    return TypedGraph(model, kept, looked_at, _frozen(draft, model))


def _normalised(draft: Draft, images: Mapping[str, NDArray[np.uint8]]) -> dict[int, Floats]:
    """Images as the network takes them, by the position of their task."""
    found = {task: images.get(one.header.name) for task, one in enumerate(draft.tasks)}
    return {
        task: normalise(some, draft.tasks[task].header.preprocessing)
        for task, some in found.items()
        if some is not None and len(some)
    }


def _in_words(images: Mapping[int, Floats]) -> str:
    count = sum(map(len, images.values()))
    return f"{count} training images of {len(images)} task{'s' if len(images) > 1 else ''}"


def _overflow(
    draft: Draft,
    package: Package,
    precision: Precision,
    images: Mapping[int, Floats],
    threads: int | None,
    listener: Listener,
) -> tuple[dict[str, str], str]:
    """Values that overflow on the images, with the reason, and which images those were."""
    if precision is not Precision.FP16:
        return {}, f"not needed: {precision.value} reaches as far as fp32"
    why = _cannot_look(images)
    if why is not None:
        listener(Note(f"Overflow in fp16 was not looked for: {why}."))
        return {}, f"not run: {why}"
    ranges = _ranges(draft, package, images, threads, listener)
    return overflowing(ranges, precision), _in_words(images)


def _cannot_look(images: Mapping[int, Floats]) -> str | None:
    if runtime_version() is None:
        return f"ONNX Runtime is not installed ({install_line(CPU)})"
    return None if images else "no images were given; give the run of each task: --run FOLDER"


def _ranges(
    draft: Draft, package: Package, images: Mapping[int, Floats], threads: int | None, listener: Listener
) -> dict[str, float]:
    """Largest absolute value of each value of the graph over all tasks' images."""
    largest: dict[str, float] = {}
    with engine_graph(draft.model, package.folder) as graph:
        for task, some in images.items():
            for part in _parts(some, draft.mixed):
                feeds = draft.feeds(task, len(part))
                found = value_ranges(graph, part, feeds=feeds, threads=threads, listener=listener)
                largest = {name: max(value, largest.get(name, 0.0)) for name, value in found.items()}
    return largest


def _parts(images: Floats, mixed: bool) -> Iterator[Floats]:
    step = IMAGES_AT_ONCE if mixed else len(images)
    for start in range(0, len(images), step):
        yield images[start : start + step]


def _quantised(
    draft: Draft, package: Package, images: Mapping[int, Floats], threads: int | None, listener: Listener
) -> tuple[ir.Model, tuple[KeptLayer, ...]]:
    if draft.strategy is not Strategy.PER_TASK:
        raise ConfigError(
            "INT8 is calibrated on the images of one task, so it needs --strategy per-task; "
            "for several tasks in one engine, use --precision fp16."
        )
    if not images:
        raise ConfigError(
            "INT8 needs training images to calibrate on. Give the run that made the task: --run FOLDER, "
            "or where its images are: --data FOLDER."
        )
    # What passes changed stays inside the graph's own file: the quantised model lives longer than a file beside it.
    with engine_graph(draft.model, package.folder, embedded_limit_bytes=PROTOBUF_LIMIT_BYTES) as graph:
        ranges = value_ranges(graph, images[0], threads=threads, listener=listener)
        keep = overflowing(ranges, Precision.INT8)
        model, layers = quantised_model(graph, images[0], keep=keep, listener=listener)
    return model, layers.kept


def _frozen(draft: Draft, model: ir.Model) -> frozenset[str]:
    """Makes weights of the first task's inputs where the strategy is to refit; gives their names."""
    from mimi_edge.export.passes.freeze_inputs import freeze_inputs

    if draft.strategy is not Strategy.REFIT or draft.layout is None:
        return frozenset()
    tensors = task_tensors(draft.tasks[0], draft.layout)
    freeze_inputs(model, tensors)
    return frozenset(tensors)
