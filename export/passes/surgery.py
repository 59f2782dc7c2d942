"""What several passes do to graphs: read constants, recognise linear layers, put new weights and nodes in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Linear:
    """A layer `x @ weight (+ bias)` with constant weights.

    Attributes:
        source: x, [.., K].
        weight: [K, M].
        bias: [M], None without one.
        nodes: `MatMul`, and `Add` where there is a bias, in this order.
    """

    source: ir.Value
    weight: ir.Value
    bias: ir.Value | None
    nodes: tuple[ir.Node, ...]

    @property
    def output(self) -> ir.Value:
        """The layer's result, [.., M]."""
        return self.nodes[-1].outputs[0]

    @property
    def shape(self) -> tuple[int, int]:
        """K and M."""
        inputs, outputs = size_of(self.weight) or (0, 0)
        return inputs, outputs


def is_constant(value: ir.Value | None) -> bool:
    """Whether nobody can give this value another content: an initializer that is no input of the graph as well."""
    return value is not None and value.const_value is not None and not value.is_graph_input()


def size_of(value: ir.Value | None) -> tuple[int, ...] | None:
    """Shape of a constant, without reading it; None for anything else."""
    if value is None or value.const_value is None or value.is_graph_input():
        return None
    return tuple(value.const_value.shape.numpy())


def content(value: ir.Value | None) -> Array:
    """Content of a constant, read from the file where it lies.

    Raises:
        ValueError: the value is no constant.
    """
    if value is None or value.const_value is None or value.is_graph_input():
        raise ValueError(f"{'nothing' if value is None else value.name} is no constant")
    return np.asarray(value.const_value.numpy())


def integers(value: ir.Value | None) -> tuple[int, ...] | None:
    """Content of a constant vector of integers, such as a shape; None for anything else."""
    size = size_of(value)
    if value is None or size is None or len(size) > 1 or value.dtype is None or not value.dtype.is_integer():
        return None
    return tuple(int(each) for each in content(value).ravel())


def only_user(value: ir.Value) -> ir.Node | None:
    """The one node that takes this value, once; None where there are more or it leaves the graph."""
    uses = tuple(value.uses())
    return uses[0].node if len(uses) == 1 and not value.is_graph_output() else None


def constant_nodes(graph: ir.Graph) -> dict[ir.Node, None]:
    """Nodes that depend on initializers alone, in the graph's order; a `DequantizeLinear` is never among them.

    What a `DequantizeLinear` feeds shall see an INT8 weight, so nothing may come between the two.
    """
    found: dict[ir.Node, None] = {}

    def is_known(value: ir.Value | None) -> bool:
        producer = None if value is None else value.producer()
        return value is None or (producer in found if producer is not None else is_constant(value))

    for node in graph:
        if node.op_type != "DequantizeLinear" and all(map(is_known, node.inputs)):
            found[node] = None
    return found


def linear_of(value: ir.Value | None) -> Linear | None:
    """The linear layer that computes a value and whose product nothing else takes."""
    producer = None if value is None else value.producer()
    if producer is None:
        return None
    if producer.op_type == "MatMul":
        return _linear(producer, None, ())
    if producer.op_type == "Add":
        for product, bias in (tuple(producer.inputs), tuple(producer.inputs)[::-1]):
            inner = None if product is None else product.producer()
            if inner is not None and inner.op_type == "MatMul" and only_user(inner.outputs[0]) is producer:
                return _linear(inner, bias, (producer,))
    return None


def _linear(product: ir.Node, bias: ir.Value | None, rest: tuple[ir.Node, ...]) -> Linear | None:
    source, weight = product.inputs
    size = size_of(weight)
    if source is None or weight is None or size is None or len(size) != 2:
        return None
    if rest and size_of(bias) != size[1:]:
        return None
    return Linear(source, weight, bias, (product, *rest))


def constant(name: str, array: Array) -> ir.Value:
    """A constant held in memory until somebody writes it; it is in no graph yet."""
    tensor = ir.tensor(np.asarray(array, order="C"), name=name)
    return ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)


def new_constant(graph: ir.Graph, name: str, array: Array) -> ir.Value:
    """Puts a constant into a graph."""
    value = constant(name, array)
    graph.register_initializer(value)
    return value


def new_node(
    op_type: str, inputs: Sequence[ir.Value | None], name: str, **attributes: float | Sequence[int]
) -> ir.Node:
    """A node with one output, both of one name; it is in no graph yet."""
    return ir.node(op_type, list(inputs), attributes, name=name, outputs=[ir.Value(name=name)])


def remove_unused(graph: ir.Graph, value: ir.Value) -> None:
    """Removes what computed a value that nothing uses any more, then what that leaves unused, constants included."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if value.uses() or value.is_graph_output() or value.is_graph_input():
            continue
        node = value.producer()
        if node is None:
            graph.initializers.pop(str(value.name), None)
        elif node.graph is not None and not any(output.uses() for output in node.outputs):
            waiting += [each for each in node.inputs if each is not None]
            graph.remove(node, safe=True)
