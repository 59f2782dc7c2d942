"""Other forms of an adapter in a merged graph, to see what they would be worth."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from mimi_edge.export.passes.surgery import new_constant, new_node, remove_unused

ADAPTED = ".adapted"


def two_dimensional_adapters(model: ir.Model) -> None:
    """Every `MatMul, Gelu, MatMul, Add` on tokens flattened to [B * T, M], the last two as one `Gemm` that adds h."""
    graph = model.graph
    computed = {value.name: value for node in graph for value in node.outputs}
    for name in [name for name in computed if name and name.endswith(ADAPTED)]:
        site = name[: -len(ADAPTED)]
        _rewrite(graph, computed, site)


def _rewrite(graph: ir.Graph, computed: dict[str | None, ir.Value], site: str) -> None:
    value, adapted = computed[site], computed[site + ADAPTED]
    into, hidden, out_of = (computed[f"{site}.{part}"].producer() for part in ("into", "hidden", "out_of"))
    width = _stored(into.inputs[1]).const_value.shape[0]
    flat = new_node(
        "Reshape", [value, new_constant(graph, f"{site}.flat.shape", np.array([-1, width]))], f"{site}.flat"
    )
    product = new_node("Gemm", [flat.outputs[0], into.inputs[1]], f"{site}.flat.into")
    activated = new_node(hidden.op_type, product.outputs, f"{site}.flat.hidden")
    added = new_node("Gemm", [activated.outputs[0], out_of.inputs[1], flat.outputs[0]], f"{site}.flat.adapted")
    shape = new_node("Shape", [value], f"{site}.shape")
    back = new_node("Reshape", [added.outputs[0], shape.outputs[0]], f"{site}.back")
    graph.insert_after(adapted.producer(), [flat, product, activated, added, shape, back])
    ir.convenience.replace_all_uses_with(adapted, back.outputs[0], replace_graph_outputs=True)
    remove_unused(graph, adapted)


def _stored(value: ir.Value) -> ir.Value:
    """The initializer that a weight is, or is cast from."""
    while value.const_value is None:
        value = value.producer().inputs[0]
    return value
