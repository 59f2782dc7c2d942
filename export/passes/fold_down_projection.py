"""Computes an adapter's hidden neurons in the matrix product before it, as extra columns.

A site's value is h = x @ W + b, and its adapter begins with h @ down = x @ (W @ down) + b @ down. So one product with
[W | W @ down] gives both, and a surviving adapter costs one small product and an addition. This mixes the task's
weights with the backbone's: an engine that changes the task later must not have it.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from mimi_edge.export.passes.surgery import (
    Array,
    Linear,
    content,
    linear_of,
    new_constant,
    new_node,
    only_user,
    remove_unused,
    size_of,
)

ACTIVATIONS = frozenset({"Gelu", "Relu"})


def fold_down_projection(model: ir.Model) -> bool:
    """Widens the last product of every sub-layer that has an adapter with constant weights.

    The site's value keeps its name, and so does the adapter's h @ down.
    """
    adapters = [node for node in model.graph if _begins_adapter(node)]
    folded = [_fold(model.graph, node) for node in adapters]
    return any(folded)


def _begins_adapter(node: ir.Node) -> bool:
    """Whether this is the first of `MatMul, Gelu, MatMul, Add`, the last of which adds the site's value."""
    if node.op_type != "MatMul" or len(size_of(node.inputs[1]) or ()) != 2:
        return False
    activation = only_user(node.outputs[0])
    if activation is None or activation.op_type not in ACTIVATIONS:
        return False
    out_of = only_user(activation.outputs[0])
    if out_of is None or out_of.op_type != "MatMul" or out_of.inputs[0] is not activation.outputs[0]:
        return False
    added = only_user(out_of.outputs[0])
    return added is not None and added.op_type == "Add" and node.inputs[0] in added.inputs


def _fold(graph: ir.Graph, into: ir.Node) -> bool:
    linear = linear_of(into.inputs[0])
    down = into.inputs[1]
    if linear is None or down is None:
        return False
    _widen(graph, linear, into.outputs[0], content(down))
    return True


def _widen(graph: ir.Graph, linear: Linear, hidden: ir.Value, down: Array) -> None:
    """Replaces the layer and h @ down by one wider layer and a split."""
    site = linear.output
    wide = new_node("MatMul", [linear.source, _weight(graph, linear, down)], f"{site.name}.wide")
    nodes = [wide]
    if linear.bias is not None:
        nodes.append(new_node("Add", [wide.outputs[0], _bias(graph, linear, down)], f"{site.name}.biased"))
    sizes = new_constant(graph, f"{site.name}.split", np.asarray(down.shape, np.int64))
    parts = [ir.Value(name=site.name), ir.Value(name=hidden.name)]
    split = ir.node("Split", [nodes[-1].outputs[0], sizes], {"axis": -1}, name=f"{site.name}.parts", outputs=parts)
    graph.insert_after(linear.nodes[-1], [*nodes, split])
    for old, new in zip((hidden, site), parts[::-1], strict=True):
        ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
        remove_unused(graph, old)


def _weight(graph: ir.Graph, linear: Linear, down: Array) -> ir.Value:
    """[W | W @ down], [K, M + N]."""
    return new_constant(graph, f"{linear.output.name}.wide.weight", _widened(content(linear.weight), down))


def _bias(graph: ir.Graph, linear: Linear, down: Array) -> ir.Value:
    """[b | b @ down], [M + N]."""
    if linear.bias is None:
        raise AssertionError(f"{linear.output.name} has no bias")
    return new_constant(graph, f"{linear.output.name}.wide.bias", _widened(content(linear.bias), down))


def _widened(kept: Array, down: Array) -> Array:
    # The product is rounded once, as if it had been computed exactly.
    extra = kept.astype(np.float64) @ down.astype(np.float64)
    return np.concatenate([kept, extra.astype(kept.dtype)], axis=-1)
