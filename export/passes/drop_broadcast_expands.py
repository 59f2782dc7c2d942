"""Drops `Expand` nodes before element-wise operators, which broadcast by themselves.

Swin V2's cosine attention expands norms before it divides by them; the shape to expand to follows the batch, so each
such node drags a chain of shape arithmetic along.
"""

from __future__ import annotations

import onnx_ir as ir

BROADCASTING = frozenset({"Add", "Sub", "Mul", "Div"})


def drop_broadcast_expands(model: ir.Model) -> bool:
    """Removes every `Expand` all of whose users broadcast to the same shape without it; needs inferred shapes."""
    idle = [node for node in model.graph if node.op_type == "Expand" and _needless(node)]
    for node in idle:
        source = node.inputs[0]
        if source is not None:
            ir.convenience.replace_all_uses_with(node.outputs[0], source)
            model.graph.remove(node, safe=True)
    return bool(idle)


def _needless(node: ir.Node) -> bool:
    expanded = node.outputs[0]
    return not expanded.is_graph_output() and all(
        use.node.op_type in BROADCASTING and _same_shape(use.node.inputs[1 - use.idx], expanded)
        for use in expanded.uses()
    )


def _same_shape(other: ir.Value | None, expanded: ir.Value) -> bool:
    return (
        other is not None
        and other is not expanded
        and other.shape is not None
        and None not in [getattr(size, "value", size) for size in other.shape]
        and other.shape == expanded.shape
    )
