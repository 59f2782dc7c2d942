"""Turns task weights that are stored as fp16 or int8 into plain fp32 constants.

In a merged graph they stand behind `Cast`, or `Cast` and `Mul`. A runtime that takes int8 for the number format to
compute in would misread that; afterwards the graph shows fp32 alone, each weight under its name in the task file.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from mimi_edge.export.passes.surgery import constant, content, is_constant, only_user, remove_unused

STORED = frozenset({ir.DataType.FLOAT16, ir.DataType.INT8})


def fold_task_weights(model: ir.Model) -> bool:
    """Evaluates every conversion of a stored fp16 or int8 constant to fp32; the numbers are the runtime's own."""
    conversions = [node for node in model.graph if _is_conversion(node)]
    for cast in conversions:
        _fold(model.graph, cast)
    return bool(conversions)


def _is_conversion(node: ir.Node) -> bool:
    if node.op_type != "Cast" or node.attributes["to"].as_int() != ir.DataType.FLOAT:
        return False
    stored = node.inputs[0]
    return stored is not None and is_constant(stored) and stored.dtype in STORED


def _fold(graph: ir.Graph, cast: ir.Node) -> None:
    stored, result = cast.inputs[0], cast.outputs[0]
    if stored is None:
        raise AssertionError(f"{cast.name} converts nothing")
    weight = content(stored).astype(np.float32)
    if (scaling := _scaling(result)) is not None:
        scaled, scale = scaling
        weight, result = weight * content(scale), scaled
    # The old constant goes first, so that its name is free.
    folded = constant(str(stored.name), weight)
    ir.convenience.replace_all_uses_with(result, folded, replace_graph_outputs=True)
    remove_unused(graph, result)
    if stored.name in graph.initializers:
        folded.name = f"{stored.name}.fp32"
    graph.register_initializer(folded)


def _scaling(converted: ir.Value) -> tuple[ir.Value, ir.Value] | None:
    """What the converted weight gives times its constant scales, if that is all it is used for, and the scales."""
    user = only_user(converted)
    if user is None or user.op_type != "Mul":
        return None
    scale = user.inputs[1] if user.inputs[0] is converted else user.inputs[0]
    if scale is None or scale.dtype != ir.DataType.FLOAT or not is_constant(scale):
        return None
    return user.outputs[0], scale
