"""A task file's weights as values of a graph: initializers that point into the file, and what makes them fp32.

fp32 is used where it lies. fp16 goes through `Cast`; int8 through `Cast` and a `Mul` by its scales. Both depend on
constants alone, so a runtime computes them once, when it loads the graph. Weights of fewer bits are unpacked here, and
their levels lie in the graph as int8, because no operator that every runtime folds takes bits out of bytes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from mimi_edge.export.passes.surgery import Array, new_constant
from mimi_edge.tasks.files import TaskFile, TensorLocation
from mimi_edge.tasks.stores import SCALE
from mimi_edge.tasks.task import neuron_axis

DTYPES = {"F32": ir.DataType.FLOAT, "F16": ir.DataType.FLOAT16, "I8": ir.DataType.INT8}


class TaskWeights:
    """Makes fp32 values out of the tensors of one task file, in one graph."""

    def __init__(self, graph: ir.Graph, file: TaskFile, place: Path) -> None:
        """What was read, and where the same file lies beside the graph."""
        self._graph = graph
        self._task = file.task
        self._file = place
        self._locations = file.locations
        self._conversions: list[ir.Node] = []
        self._values: dict[str, ir.Value] = {}
        self._places: dict[str, NDArray[np.intp]] = {}

    def tensor(self, name: str) -> ir.Value:
        """A tensor in fp32; int8 has one scale for each index along one of its axes."""
        if name not in self._values:
            self._values[name] = self._decoded(name)
        return self._values[name]

    def places(self, name: str) -> NDArray[np.intp]:
        """Which bits of a tensor of packed bits are set, ascending; it is read once, and no value of the graph."""
        if name not in self._places:
            self._places[name] = np.flatnonzero(np.unpackbits(np.asarray(self._task.tensors[name], np.uint8)))
        return self._places[name]

    def add(self, node: ir.Node) -> ir.Value:
        """Another node that depends on constants alone; gives its output."""
        self._conversions.append(node)
        return node.outputs[0]

    def constant(self, name: str, array: Array) -> ir.Value:
        """A constant beside the task's tensors."""
        return new_constant(self._graph, name, array)

    def place(self) -> None:
        """Puts the conversions at the graph's start, before anything that needs them."""
        first = next(iter(self._graph), None)
        if first is None:
            self._graph.extend(self._conversions)
        elif self._conversions:
            self._graph.insert_before(first, self._conversions)

    def _decoded(self, name: str) -> ir.Value:
        location = self._locations[name]
        if name + SCALE in self._task.tensors and name + SCALE not in self._locations:
            scales = self._task.tensors[name + SCALE].astype(np.float32)
            return self._scaled(
                name, self.constant(name, self._task.tensors[name]), self.constant(name + SCALE, scales)
            )
        weight = self._initializer(name, location.shape)
        if name + SCALE not in self._locations:
            return weight if location.dtype == "F32" else self._cast(name, weight)
        (count,) = self._locations[name + SCALE].shape
        # Same bytes, but shaped to broadcast along the axis.
        scale = self._initializer(name + SCALE, (count, 1) if neuron_axis(name) == 0 else (1, count))
        return self._scaled(name, weight, scale)

    def _cast(self, name: str, weight: ir.Value) -> ir.Value:
        outputs = [_named(f"{name}.cast")]
        return self.add(ir.node("Cast", [weight], {"to": ir.DataType.FLOAT}, name=f"{name}.cast", outputs=outputs))

    def _scaled(self, name: str, weight: ir.Value, scale: ir.Value) -> ir.Value:
        outputs = [_named(f"{name}.fp32")]
        return self.add(ir.node("Mul", [self._cast(name, weight), scale], name=f"{name}.fp32", outputs=outputs))

    def _initializer(self, name: str, shape: tuple[int, ...]) -> ir.Value:
        tensor = _external(self._file, name, self._locations[name], shape)
        value = ir.Value(name=name, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
        self._graph.register_initializer(value)
        return value


def _external(file: Path, name: str, location: TensorLocation, shape: tuple[int, ...]) -> ir.ExternalTensor:
    return ir.ExternalTensor(
        location=file.name,
        offset=location.offset,
        length=location.length,
        dtype=DTYPES[location.dtype],
        shape=ir.Shape(shape),
        name=name,
        base_dir=file.parent,
    )


def _named(name: str) -> ir.Value:
    return ir.Value(name=name)
