"""Scales attention's queries where they are projected: the scale goes into their columns of weight and bias."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from mimi_edge.export.passes.projections import Projection, projections
from mimi_edge.export.passes.surgery import Array, content, is_constant, new_constant, only_user, remove_unused, size_of


def fold_query_scale(model: ir.Model) -> bool:
    """Drops every `Mul` of projected queries by a constant number; run it before the projections are split."""
    folded = [_fold(model.graph, projection) for projection in projections(model.graph)]
    return any(folded)


def _fold(graph: ir.Graph, projection: Projection) -> bool:
    queries = projection.parts[0]
    scaling = only_user(queries)
    if scaling is None or scaling.op_type != "Mul":
        return False
    scale = scaling.inputs[1] if scaling.inputs[0] is queries else scaling.inputs[0]
    if scale is None or not is_constant(scale) or np.prod(size_of(scale) or (1,)) != 1:
        return False
    _scale(graph, projection, float(content(scale).item()))
    ir.convenience.replace_all_uses_with(scaling.outputs[0], queries)
    remove_unused(graph, scaling.outputs[0])
    return True


def _scale(graph: ir.Graph, projection: Projection, factor: float) -> None:
    """Multiplies the queries' columns, the first third of the layer's."""
    linear = projection.linear
    for node, value, kind in zip(linear.nodes, (linear.weight, linear.bias), ("weight", "bias"), strict=False):
        if value is None:
            continue
        scaled = new_constant(graph, f"{linear.output.name}.{kind}", _scaled(content(value), projection.width, factor))
        node.replace_input_with(list(node.inputs).index(value), scaled)
        remove_unused(graph, value)


def _scaled(array: Array, columns: int, factor: float) -> Array:
    scaled = array.copy()
    scaled[..., :columns] *= np.asarray(factor, array.dtype)
    return scaled
