"""Takes LayerNormalization and Gelu apart, as exporters for older operator sets write them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from mimi_edge.export.passes.surgery import new_constant, new_node, remove_unused

LAST_AXIS = -1


class _Writer:
    """Puts new nodes after one another, behind a node that they are to replace."""

    def __init__(self, graph: ir.Graph, replaced: ir.Node) -> None:
        self._graph = graph
        self._replaced = replaced
        self._name = replaced.outputs[0].name
        self._nodes: list[ir.Node] = []

    def number(self, name: str, value: float) -> ir.Value:
        return new_constant(self._graph, f"{self._name}.{name}", np.asarray(value, np.float32))

    def axes(self) -> ir.Value:
        return new_constant(self._graph, f"{self._name}.axes", np.asarray([LAST_AXIS], np.int64))

    def __call__(self, op_type: str, *inputs: ir.Value | None) -> ir.Value:
        name = f"{self._name}.{len(self._nodes)}.{op_type}"
        self._nodes.append(new_node(op_type, inputs, name))
        return self._nodes[-1].outputs[0]

    def finish(self) -> None:
        """The last node's result takes the place of the old one."""
        old = self._replaced.outputs[0]
        self._graph.insert_after(self._replaced, self._nodes)
        ir.convenience.replace_all_uses_with(old, self._nodes[-1].outputs[0], replace_graph_outputs=True)
        remove_unused(self._graph, old)


def decompose_gelu(model: ir.Model) -> bool:
    """Gelu(x) = x * (1 + erf(x / sqrt(2))) * 0.5, in five nodes."""
    return _each(model, "Gelu", _gelu)


def decompose_layer_norm(model: ir.Model) -> bool:
    """LayerNormalization over the last axis, in nine nodes."""
    return _each(model, "LayerNormalization", _layer_norm)


def _each(model: ir.Model, op_type: str, write: Callable[[_Writer, ir.Node], None]) -> bool:
    found = [node for node in model.graph if node.op_type == op_type]
    for node in found:
        writer = _Writer(model.graph, node)
        write(writer, node)
        writer.finish()
    return bool(found)


def _gelu(write: _Writer, node: ir.Node) -> None:
    x = node.inputs[0]
    error = write("Erf", write("Div", x, write.number("root", 2**0.5)))
    write("Mul", write("Mul", x, write("Add", error, write.number("one", 1))), write.number("half", 0.5))


def _layer_norm(write: _Writer, node: ir.Node) -> None:
    x, weight, bias = node.inputs
    axes = write.axes()
    centred = write("Sub", x, write("ReduceMean", x, axes))
    variance = write("ReduceMean", write("Pow", centred, write.number("two", 2)), axes)
    epsilon = write.number("epsilon", node.attributes["epsilon"].as_float())
    deviation = write("Sqrt", write("Add", variance, epsilon))
    write("Add", write("Mul", write("Div", centred, deviation), weight), bias)
