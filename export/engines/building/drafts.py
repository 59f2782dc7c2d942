"""From a package's graphs to the one that an engine is built from: by strategy, then by precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mimi_edge.choices import Backend, Precision, Strategy
from mimi_edge.errors import ConfigError
from mimi_edge.events import Listener, Note, silent
from mimi_edge.export.engine_graphs import engine_graph
from mimi_edge.export.engine_passes import MIXES_TASK_INTO_BACKBONE, check_operators, default_passes, tune
from mimi_edge.export.graphs import load_graph
from mimi_edge.export.onnx_runtime import runtime_version
from mimi_edge.export.open_packages import Package
from mimi_edge.export.passes.round_up_neurons import rounded_up
from mimi_edge.export.precision.half import FP32_OPERATORS, KeptLayer, to_half
from mimi_edge.export.precision.quantise import quantised_model
from mimi_edge.export.precision.ranges import Look, find_ranges, overflowing
from mimi_edge.export.shared.inputs import FRAME_OF_ANSWER, TASK_OF_ANSWER, bank_of, task_tensors
from mimi_edge.export.shared.layout import NO_SPARE, SharedLayout, Spare, layout_of
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
LOOKING_SECONDS = 60.0
"""Of looking for overflow; what is not seen by then is left to the margin."""


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

    def looks(self, images: Mapping[int, Floats]) -> list[Look]:
        """What to look at for the ranges of values: each task's images with its own weights.

        A mixed graph takes all tasks' images at once, each image answered by its task.

        Args:
            images: normalised, by the position of their task.
        """
        if self.layout is None or not self.mixed:
            return [Look(some, self._weights(task)) for task, some in images.items()]
        # What pads the logits of classes that a task does not have is no range.
        bank = bank_of(self.tasks, self.layout, padded_logit=0.0)
        everything = np.concatenate(list(images.values()))
        answered_by = np.concatenate([np.full(len(some), task, np.int32) for task, some in images.items()])
        mixed = np.argsort(np.concatenate([np.arange(len(some)) for some in images.values()]), kind="stable")
        parts = [mixed[start : start + IMAGES_AT_ONCE] for start in range(0, len(mixed), IMAGES_AT_ONCE)]
        return [
            Look(
                everything[part],
                {**bank, FRAME_OF_ANSWER: np.arange(len(part), dtype=np.int32), TASK_OF_ANSWER: answered_by[part]},
            )
            for part in parts
        ]

    def _weights(self, task: int) -> dict[str, NDArray[Any]]:
        return {} if self.layout is None else dict(task_tensors(self.tasks[task], self.layout, padded_logit=0.0))


@dataclass(frozen=True)
class TypedGraph:
    """A graph in the number formats that an engine computes in.

    Attributes:
        model: of which the weights that no pass changed lie in the package.
        kept: layers that stay in fp32.
        looked_at: which images were looked at for overflow or calibrated on, in words.
        refittable: names of the weights that a refittable engine takes other values for.
        overflow: values that are too large for half precision, with the reason.
    """

    model: ir.Model
    kept: tuple[KeptLayer, ...]
    looked_at: str
    refittable: frozenset[str] = field(default=frozenset())
    overflow: Mapping[str, str] = field(default_factory=dict)


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
    layout = layout_of(tasks, spare=spare, rounded=rounded_up)
    shared = shared_model(package.backbone_graph, layout, mixed=mixed)
    return Draft(shared.model, tasks, strategy, layout, mixed, shared.saved_blocks, tune(shared.model, chosen))


def typed(
    draft: Draft,
    package: Package,
    precision: Precision,
    images: Mapping[str, NDArray[np.uint8]],
    *,
    fp32_operators: Mapping[str, str] = FP32_OPERATORS,
    looked_at: TypedGraph | None = None,
    threads: int | None = None,
    listener: Listener = silent,
) -> TypedGraph:
    """Puts the number formats of a precision into a draft's graph, after looking at real images.

    Args:
        draft: whose model is used up.
        package: where its weights lie.
        precision: to compute in.
        images: by the name of the task, some of its training images, [n, H, W, 3] as `fit` makes them.
        fp32_operators: operators that stay in fp32 in half precision, with the reason.
        looked_at: what was made of the same draft before: its images are not looked at again.
        threads: of ONNX Runtime, which looks at them.
        listener: hears how far it is, and what could not be looked at.

    Raises:
        ArtifactError: the graph has what TensorRT does not know.
        ConfigError: INT8 for several tasks, or without training images.
        MimiEdgeError: INT8 without ONNX Runtime.
    """
    normalised = _normalised(draft, images)
    overflow: Mapping[str, str] = {}
    if precision is Precision.INT8:
        model, kept = _quantised(draft, package, normalised, threads, listener)
        words = _in_words(normalised)
    else:
        if looked_at is None:
            overflow, words = _overflow(draft, package, precision, normalised, threads, listener)
        else:
            overflow, words = looked_at.overflow, looked_at.looked_at
        model, kept = draft.model, to_half(draft.model, precision, overflow, fp32_operators=fp32_operators)
    check_operators(model)  # of what TensorRT will read, not of what it was made from
    return TypedGraph(model, kept, words, _frozen(draft, model), overflow)


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
    with engine_graph(draft.model, package.folder) as graph:
        ranges = find_ranges(
            graph,
            draft.looks(images),
            threads=threads,
            batch=IMAGES_AT_ONCE,
            seconds=LOOKING_SECONDS,
            listener=listener,
        )
    every, looked_at = sum(map(len, images.values())), _in_words(images)
    if ranges.images < every:
        looked_at = f"{ranges.images} of {looked_at}, {LOOKING_SECONDS:.0f} s"
        listener(Note(f"Overflow in fp16 was looked for on {looked_at}."))
    return overflowing(ranges.largest, precision, partial_sums=ranges.partial_sums), looked_at


def _cannot_look(images: Mapping[int, Floats]) -> str | None:
    if runtime_version() is None:
        return f"ONNX Runtime is not installed ({install_line(CPU)})"
    return None if images else "no images were given; give the run of each task: --run FOLDER"


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
        ranges = find_ranges(graph, [Look(images[0])], threads=threads, seconds=LOOKING_SECONDS, listener=listener)
        keep = overflowing(ranges.largest, Precision.INT8, partial_sums=ranges.partial_sums)
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
