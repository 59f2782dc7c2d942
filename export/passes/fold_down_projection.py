"""Computes an adapter's hidden neurons in the matrix product before it, as extra columns.

A site's value is h = x @ W + b with W [K, M], and its adapter begins with h @ down = x @ (W @ down) + b @ down. So one
product with [W | W @ down] gives both, and a surviving adapter costs one small product and an addition. This mixes the
task's weights with the backbone's: an engine that changes the task later must not have it.
"""

from __future__ import annotations

from collections.abc import Callable

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
    """Widens the last product of every sub-layer that has an adapter with constant weights and K <= M, as attention.

    That costs no more multiplications than h @ down did. The site's value keeps its name, and so does h @ down.
    """
    return _fold_all(model, lambda inputs, width: inputs <= width)


def fold_mlp_down_projection(model: ir.Model) -> bool:
    """Does the same where K > M, as in an MLP, whose last layer has four inputs for each output.

    The extra columns then cost K / M times the multiplications of h @ down.
    """
    return _fold_all(model, lambda inputs, width: inputs > width)


def _fold_all(model: ir.Model, wanted: Callable[[int, int], bool]) -> bool:
    """Folds the adapters behind layers whose K and M are as wanted."""
    adapters = [(node, linear_of(node.inputs[0])) for node in model.graph if _begins_adapter(node)]
    chosen = [(node, linear) for node, linear in adapters if linear is not None and wanted(*linear.shape)]
    for into, linear in chosen:
        _widen(model.graph, linear, into)
    return bool(chosen)


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


def _widen(graph: ir.Graph, linear: Linear, into: ir.Node) -> None:
    """Replaces the layer and h @ down by one wider layer and a split."""
    hidden = into.outputs[0]
    down = content(into.inputs[1])
    site = linear.output
    weight = new_constant(graph, f"{site.name}.wide.weight", _widened(content(linear.weight), down))
    wide = new_node("MatMul", [linear.source, weight], f"{site.name}.wide")
    nodes = [wide]
    if linear.bias is not None:
        bias = new_constant(graph, f"{site.name}.wide.bias", _widened(content(linear.bias), down))
        nodes.append(new_node("Add", [wide.outputs[0], bias], f"{site.name}.biased"))
    sizes = new_constant(graph, f"{site.name}.split", np.asarray(down.shape, np.int64))
    parts = [ir.Value(name=site.name), ir.Value(name=hidden.name)]
    split = ir.node("Split", [nodes[-1].outputs[0], sizes], {"axis": -1}, name=f"{site.name}.parts", outputs=parts)
    graph.insert_after(linear.nodes[-1], [*nodes, split])
    for old, new in zip((hidden, site), parts[::-1], strict=True):
        ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
        remove_unused(graph, old)


def _widened(kept: Array, down: Array) -> Array:
    """[W | W @ down], [K, M + N], or [b | b @ down], [M + N]."""
    # The product is rounded once, as if it had been computed exactly.
    extra = kept.astype(np.float64) @ down.astype(np.float64)
    return np.concatenate([kept, extra.astype(kept.dtype)], axis=-1)
