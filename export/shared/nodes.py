"""Nodes for the graphs of this folder: each is named after the one value it gives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir


def node(op_type: str, inputs: Sequence[ir.Value | None], name: str, **attributes: int) -> ir.Node:
    """A node, not yet in a graph, whose one output has the same name."""
    return ir.node(op_type, list(inputs), attributes, name=name, outputs=[ir.Value(name=name)])


def reshape(graph: ir.Graph, value: ir.Value, shape: Sequence[int], name: str) -> ir.Node:
    """A `Reshape` to a constant shape; -1 is what follows the batch. The constant joins the graph at once."""
    tensor = ir.tensor(np.asarray(shape, np.int64), name=f"{name}.shape")
    kind = ir.TensorType(ir.DataType.INT64)
    constant = ir.Value(name=tensor.name, shape=ir.Shape([len(shape)]), type=kind, const_value=tensor)
    graph.register_initializer(constant)
    return node("Reshape", [value, constant], name)


def add_input(graph: ir.Graph, name: str, dtype: ir.DataType, shape: Sequence[int | str]) -> ir.Value:
    """Another input of a graph; a dimension that is not known yet has a name."""
    value = ir.Value(name=name, shape=ir.Shape(list(shape)), type=ir.TensorType(dtype))
    graph.inputs.append(value)
    return value
