"""Drops `Pad` nodes that pad nothing: Swin pads to whole windows, which is no padding at its usual sizes."""

from __future__ import annotations

import onnx_ir as ir


def drop_no_op_pads(model: ir.Model) -> bool:
    """Removes every `Pad` whose amounts are all the constant 0."""
    idle = [node for node in model.graph if node.op_type == "Pad" and _pads_nothing(node)]
    for node in idle:
        source = node.inputs[0]
        if source is not None:
            ir.convenience.replace_all_uses_with(node.outputs[0], source, replace_graph_outputs=True)
            model.graph.remove(node, safe=True)
    return bool(idle)


def _pads_nothing(node: ir.Node) -> bool:
    amounts = node.inputs[1].const_value if len(node.inputs) > 1 and node.inputs[1] is not None else None
    return amounts is not None and not amounts.numpy().any()
