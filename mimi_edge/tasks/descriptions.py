"""What the method of a stored task does to a network: a description with the sizes that the task's tensors have."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, fields
from typing import Any

import numpy as np

from mimi_edge.errors import ArtifactError
from mimi_edge.methods.catalogue import METHODS
from mimi_edge.methods.description import Description, Places
from mimi_edge.methods.method import Method
from mimi_edge.methods.network import Network
from mimi_edge.methods.weights import Shape
from mimi_edge.tasks.stores import SCALE
from mimi_edge.tasks.task import HEAD_BIAS, HEAD_WEIGHT, MIMI, MethodChoice, Task, TaskHeader
from mimi_edge.texts import excerpt, fault_list, safe_line
from mimi_edge.version import __version__

ACTIVATION = "activation"


def method_choice(method: Method, settings: Any) -> MethodChoice:
    """How a task file names a method and its settings; MiMi's show in the sites and the activation."""
    return MethodChoice() if method.name == MIMI else MethodChoice(method.name, asdict(settings))


def method_in_words(choice: MethodChoice) -> str:
    """A method with its settings, such as `LoRA, rank 8`; its bare name where this release does not know it."""
    title = METHODS[choice.name].title if choice.name in METHODS else safe_line(choice.name)
    said = [f"{name.replace('_', ' ')} {value}" for name, value in choice.settings.items()]
    return ", ".join([title, *map(safe_line, said)])


def settings_of(header: TaskHeader) -> tuple[Method, Any]:
    """The method of a task, and its settings.

    Raises:
        ArtifactError: nobody here knows the method.
        ConfigError: its settings make no sense.
    """
    if header.method.name not in METHODS:
        made_by = header.versions.get("mimi-edge", "an unknown version")
        raise ArtifactError(
            f"The task {header.name!r} is of the method {excerpt(header.method.name)}, which is not known here. Add a "
            "method of your own first (mimi_edge.methods.catalogue.add_method); for one of a newer mimi-edge, update "
            f"this one ({excerpt(made_by)} made the task, this is {__version__})."
        )
    method = METHODS[header.method.name]
    given = dict(header.method.settings)
    if ACTIVATION in {one.name for one in fields(method.settings)}:
        given.setdefault(ACTIVATION, header.activation)
    return method, method.settings_of(given)


def description_of(task: Task, network: Network) -> Description:
    """What a task does to a network.

    Raises:
        ArtifactError: nobody here knows its method, or its tensors are not those of the method on this network; every
            fault is named.
        ConfigError: the network cannot be adapted by it.
    """
    method, settings = settings_of(task.header)
    full = method.describe(network, settings)
    shapes = adapted_shapes(task)
    described = full.resized(full.sizes_in(shapes))
    if faults := list(_faults(described.shapes, shapes)) or list(_faults_of_masks(described, task)):
        raise ArtifactError(
            f"The task {task.header.name!r} does not fit what {method.title} stores for this backbone:\n"
            f"{fault_list(faults, 10)}\nTrain it again, or get an unaltered copy."
        )
    return described


def _faults_of_masks(described: Description, task: Task) -> Iterator[str]:
    for tensor in described.tensors:
        if isinstance(tensor.first, Places):
            marked = np.unpackbits(task.tensors[tensor.name].astype(np.uint8))
            expected = math.prod(described.shapes[tensor.first.of])
            if marked[tensor.first.count :].any() or marked.sum() != expected:
                yield f"tensor {tensor.name}: expected {expected} marked places of {tensor.first.count}"


def adapted_shapes(task: Task) -> dict[str, Shape]:
    """Of the method's own tensors."""
    left_out = {HEAD_WEIGHT, HEAD_BIAS, *(name + SCALE for name in task.tensors)}
    return {name: values.shape for name, values in task.tensors.items() if name not in left_out}


def _faults(expected: dict[str, Shape], got: dict[str, Shape]) -> Iterator[str]:
    yield from (f"tensor {name} is missing" for name in sorted(expected.keys() - got.keys()))
    yield from (f"tensor {name} is unknown" for name in sorted(got.keys() - expected.keys()))
    for name in sorted(expected.keys() & got.keys()):
        if expected[name] != got[name]:
            yield f"tensor {name}: expected shape {list(expected[name])}, got {list(got[name])}"
