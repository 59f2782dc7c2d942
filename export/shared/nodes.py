"""Nodes for the graphs of this folder: each is named after the one value it gives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from mimi_edge.export.passes.surgery import new_constant, new_node


def reshape(graph: ir.Graph, value: ir.Value, shape: Sequence[int], name: str) -> ir.Node:
    """A `Reshape` to a constant shape; -1 is what follows the batch. The constant joins the graph at once."""
    return new_node("Reshape", [value, new_constant(graph, f"{name}.shape", np.asarray(shape, np.int64))], name)


def add_input(graph: ir.Graph, name: str, dtype: ir.DataType, shape: Sequence[int | str]) -> ir.Value:
    """Another input of a graph; a dimension that is not known yet has a name."""
    value = ir.Value(name=name, shape=ir.Shape(list(shape)), type=ir.TensorType(dtype))
    graph.inputs.append(value)
    return value
