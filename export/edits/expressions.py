"""Weights that are expressions, as nodes that depend on constants alone, which a runtime computes once."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir

from mimi_edge.errors import ArtifactError
from mimi_edge.export.graphs import Kept, KeptParameter
from mimi_edge.export.passes.surgery import new_node
from mimi_edge.export.task_weights import TaskWeights
from mimi_edge.methods.weights import Constant, Frozen, Leaf, Operation, Shape, Stored, Weight, shape_of


class Expressions:
    """Makes values of a graph out of expressions.

    Args:
        graph: of the backbone.
        weights: of the task.
        shapes: of the task's tensors.
        parameters: where the graph has those of the backbone.
    """

    def __init__(
        self,
        graph: ir.Graph,
        weights: TaskWeights,
        shapes: Mapping[str, Shape],
        parameters: Mapping[str, KeptParameter],
    ) -> None:
        self._graph, self._weights, self._shapes, self._parameters = graph, weights, shapes, parameters
        self._made: dict[Weight, ir.Value] = {}
        self._count = 0

    def value(self, weight: Weight) -> ir.Value:
        """In fp32, computed before anything else in the graph; the same expression twice is one value."""
        if weight not in self._made:
            self._made[weight] = self._operation(weight) if isinstance(weight, Operation) else self._leaf(weight)
        return self._made[weight]

    def integers(self, *numbers: int) -> ir.Value:
        """A vector of whole numbers."""
        return self._weights.constant(self._name(), np.asarray(numbers, np.int64))

    def number(self, number: float) -> ir.Value:
        """A number that everything can be multiplied by."""
        return self._weights.constant(self._name(), np.asarray([number], np.float32))

    def value_of(self, parameter: str) -> ir.Value:
        """A parameter of the backbone as torch has it."""
        return self.value(Frozen(parameter))

    def node(self, op_type: str, *inputs: ir.Value, **attributes: float | list[int]) -> ir.Value:
        """The result of a node that depends on constants alone."""
        return self._weights.add(new_node(op_type, list(inputs), self._name(), **attributes))

    def shape(self, weight: Weight) -> Shape:
        """Of an expression."""
        return shape_of(weight, self._leaf_shape)

    def kept(self, parameter: str) -> KeptParameter:
        """Where the graph has a parameter.

        Raises:
            ArtifactError: it has it nowhere.
        """
        if parameter not in self._parameters:
            raise ArtifactError(
                f"The task changes {parameter}, which the graph of this backbone does not have as it is. Take a method "
                "that leaves it alone, or export the backbone again."
            )
        return self._parameters[parameter]

    def initializer(self, parameter: str) -> ir.Value:
        """The value that holds a parameter, however it is kept."""
        return self._graph.initializers[self.kept(parameter).initializer]

    def _leaf_shape(self, leaf: Leaf) -> Shape:
        match leaf:
            case Stored(name):
                return self._shapes[name]
            case Frozen(name):
                return self.kept(name).shape
            case Constant(_, shape):
                return shape

    def _leaf(self, leaf: Leaf) -> ir.Value:
        match leaf:
            case Stored(name):
                return self._weights.tensor(name)
            case Constant(values, shape):
                return self._weights.constant(self._name(), np.asarray(values, np.float32).reshape(shape))
            case Frozen(name):
                if self.kept(name).kept not in (Kept.AS_IT_IS, Kept.TRANSPOSED):
                    raise ArtifactError(f"{name} can be replaced in this graph, but not computed with.")
                value = self.initializer(name)
                return self.node("Transpose", value, perm=[1, 0]) if self.kept(name).kept is Kept.TRANSPOSED else value

    def _operation(self, weight: Operation) -> ir.Value:
        if weight.kind == "scatter":
            return self._scattered(weight)
        values = [self.value(operand) for operand in weight.operands]
        simple: Mapping[str, Callable[[], ir.Value]] = {
            "add": lambda: self.node("Add", *values),
            "mul": lambda: self.node("Mul", *values),
            "dot": lambda: self.node("MatMul", *values),
            "concat": lambda: values[0] if len(values) == 1 else self.node("Concat", *values, axis=0),
            "reshape": lambda: self._reshaped(values[0], weight.sizes),
            "transpose": lambda: self.node("Transpose", values[0], perm=[1, 0]),
            "part": lambda: self._part(values[0], *weight.sizes),
            "kron": lambda: self._kron(values, *map(self.shape, weight.operands)),
        }
        return simple[weight.kind]()

    def _part(self, value: ir.Value, begin: int, end: int) -> ir.Value:
        return self.node("Slice", value, self.integers(begin), self.integers(end), self.integers(0))

    def _reshaped(self, value: ir.Value, shape: Shape) -> ir.Value:
        return self.node("Reshape", value, self.integers(*shape))

    def _kron(self, values: list[ir.Value], left: Shape, right: Shape) -> ir.Value:
        spread = self._reshaped(values[0], (left[0], 1, left[1], 1))
        product = self.node("Mul", spread, self._reshaped(values[1], (1, right[0], 1, right[1])))
        return self._reshaped(product, (left[0] * right[0], left[1] * right[1]))

    def _scattered(self, weight: Operation) -> ir.Value:
        """Where numbers stand is known here, so that the graph has their places and no bits."""
        numbers, mask = weight.operands
        if not isinstance(mask, Stored):
            raise AssertionError(f"places are those of a stored mask, not of {mask}")
        begin, end = weight.sizes
        places = self._weights.places(mask.name)
        first, last = np.searchsorted(places, (begin, end)).tolist()
        zeros = self.node("ConstantOfShape", self.integers(end - begin))
        if first == last:
            return zeros
        own = self._part(self._reshaped(self.value(numbers), (-1,)), first, last)
        return self.node("ScatterElements", zeros, self.integers(*(places[first:last] - begin)), own, axis=0)

    def _name(self) -> str:
        self._count += 1
        return f"task.{self._count}"
