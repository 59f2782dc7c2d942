"""The arrays that a graph for many tasks takes: a task's weights padded with zeros, and who answers which frame."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mimi_edge.errors import ArtifactError, ConfigError
from mimi_edge.export.shared.layout import SharedLayout, misfits
from mimi_edge.tasks.stores import Floats
from mimi_edge.tasks.task import DOWN, HEAD_BIAS, HEAD_WEIGHT, UP, Task, decode_adapters, decode_head
from mimi_edge.texts import fault_list

FRAME_OF_ANSWER = "frame_of_answer"
TASK_OF_ANSWER = "task_of_answer"

PADDED_LOGIT = -65504.0
"""Of a class that the task does not have: the lowest finite number of fp16. Softmax makes exactly 0 of it."""


def tensor_shapes(layout: SharedLayout) -> dict[str, tuple[int, ...]]:
    """Shapes of a padded task: `<site>.down` [M, N], `<site>.up` [N, M], `head.weight` [C, F], `head.bias` [C]."""
    shapes: dict[str, tuple[int, ...]] = {}
    for site in layout.sites:
        width, neurons = layout.widths[site], layout.neurons[site]
        shapes |= {site + DOWN: (width, neurons), site + UP: (neurons, width)}
    return shapes | {HEAD_WEIGHT: (layout.classes, layout.backbone.features), HEAD_BIAS: (layout.classes,)}


def task_tensors(task: Task, layout: SharedLayout, *, padded_logit: float = PADDED_LOGIT) -> dict[str, Floats]:
    """One task's weights in fp32, padded to the layout, by the names of the graph's inputs.

    Args:
        task: to pad.
        layout: to pad it to.
        padded_logit: of classes that the task does not have.

    Raises:
        ArtifactError: the task does not fit; every reason is named.
    """
    if faults := misfits(task, layout):
        raise ArtifactError(
            f"Task {task.header.name} does not fit the graph that the others share:\n{fault_list(faults)}\n"
            "Export a new one with this task among those it is for."
        )
    tensors = {name: np.zeros(shape, np.float32) for name, shape in tensor_shapes(layout).items()}
    for site, adapter in decode_adapters(task).items():
        neurons = adapter.down.shape[1]
        tensors[site + DOWN][:, :neurons] = adapter.down
        tensors[site + UP][:neurons] = adapter.up
    head = decode_head(task)
    classes = len(head.bias)
    tensors[HEAD_WEIGHT][:classes] = head.weight
    tensors[HEAD_BIAS][:classes] = head.bias
    tensors[HEAD_BIAS][classes:] = padded_logit
    return tensors


def bank_of(tasks: Sequence[Task], layout: SharedLayout, *, padded_logit: float = PADDED_LOGIT) -> dict[str, Floats]:
    """All tasks' weights stacked, [T, ...]; task t of a mixed batch is the t-th of them.

    Args:
        tasks: to stack.
        layout: to pad them to.
        padded_logit: of classes that a task does not have.

    Raises:
        ArtifactError: a task does not fit; every reason is named.
        ConfigError: there is no task.
    """
    if not tasks:
        raise ConfigError("A mixed batch needs at least one resident task, got none. Name a task file.")
    padded = [task_tensors(task, layout, padded_logit=padded_logit) for task in tasks]
    return {name: np.stack([tensors[name] for tensors in padded]) for name in padded[0]}


def answer_indices(answers: Sequence[tuple[int, int]], *, frames: int, tasks: int) -> dict[str, NDArray[np.int32]]:
    """The two inputs of a mixed batch that say which task answers which frame.

    Engines do not check indices: one that is out of range reads whatever lies there. So it is done here.

    Args:
        answers: (frame, task) of each, in the order of the logits.
        frames: F, images in the batch.
        tasks: T, resident tasks.

    Raises:
        ConfigError: there is no answer, or an index is out of range.
    """
    wrong = [(frame, task) for frame, task in answers if not (0 <= frame < frames and 0 <= task < tasks)]
    if wrong or not answers:
        got = ", ".join(f"frame {frame} by task {task}" for frame, task in wrong[:5]) or "no answer at all"
        raise ConfigError(f"Expected answers about frames 0..{frames - 1} by tasks 0..{tasks - 1}, got {got}.")
    pairs = np.asarray(answers, np.int32)
    columns = (np.ascontiguousarray(pairs[:, 0]), np.ascontiguousarray(pairs[:, 1]))
    return dict(zip((FRAME_OF_ANSWER, TASK_OF_ANSWER), columns, strict=True))
