"""Evaluates the weights that a task computes of its own and of the backbone's, such as LoRA's or SSF's.

A runtime would evaluate them itself, once. As constants, other passes recognise the layers that have them, INT8 has
scales for them, and a convolution takes them in TensorRT 10.3.
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from mimi_edge.export.passes.surgery import Array, constant, constant_nodes, content, remove_unused


def fold_computed_weights(model: ir.Model) -> bool:
    """Makes constants of all values that depend on constants alone and that the rest of the graph takes."""
    nodes = constant_nodes(model.graph)
    opset = model.opset_imports.get("", 0)
    known: dict[ir.Value, Array] = {}
    for value in [value for node in nodes for value in node.outputs if _is_taken(value, nodes)]:
        folded = constant(f"{value.name}.folded", _evaluated(value, opset, known))
        model.graph.register_initializer(folded)
        for node, index in tuple(value.uses()):
            if node not in nodes:
                node.replace_input_with(index, folded)
        remove_unused(model.graph, value)
    return bool(nodes)


def _is_taken(value: ir.Value, nodes: dict[ir.Node, None]) -> bool:
    return any(use.node not in nodes for use in value.uses())


def _evaluated(value: ir.Value, opset: int, known: dict[ir.Value, Array]) -> Array:
    """Content of a value that constants alone decide, by onnx's own definition of each operator."""
    from onnx.reference import ReferenceEvaluator

    node = value.producer()
    if node is None:
        return content(value)
    if value not in known:
        inputs = {str(each.name): _evaluated(each, opset, known) for each in node.inputs if each is not None}
        evaluator: Any = ReferenceEvaluator(ir.to_proto(node), opsets={"": opset})
        known.update(zip(node.outputs, evaluator.run(None, inputs), strict=True))
    return known[value]
