"""Bottlenecks in a graph: `MatMul, Gelu, MatMul, Add` behind a sub-layer, with biases and a scale if there are any."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from mimi_edge.export.passes.surgery import new_node

ACTIVATIONS = {"gelu": "Gelu", "relu": "Relu"}
"""Our names and ONNX's; `Gelu` without attributes is the exact one. What is not here is no node."""
INTO, OUT_OF = "into", "out_of"
"""Behind the site's, the names of a bottleneck's two products."""


@dataclass(frozen=True)
class BranchValues:
    """The weights of a bottleneck as values of a graph: down [M, N], up [N, M], and what is not always there."""

    down: ir.Value
    up: ir.Value
    down_bias: ir.Value | None = None
    up_bias: ir.Value | None = None
    scale: ir.Value | None = None


def insert_branch(
    graph: ir.Graph, value: ir.Value, weights: BranchValues, activation: str | None, read: ir.Value | None = None
) -> None:
    """Turns a value h into h + scale * (phi(x @ down + down_bias) @ up + up_bias) for everybody who takes it.

    Args:
        graph: that computes h.
        value: h, the output of a sub-layer.
        weights: of the bottleneck.
        activation: phi, as ONNX calls it; None for none.
        read: x, where it is not h.
    """
    producer, site = value.producer(), value.name
    if producer is None:
        raise AssertionError(f"site value {site} is not computed by any node")
    uses = tuple(value.uses())
    nodes = [new_node("MatMul", [value if read is None else read, weights.down], f"{site}.{INTO}")]

    def then(op_type: str, other: ir.Value | None, name: str) -> None:
        inputs = [nodes[-1].outputs[0]] if other is None else [nodes[-1].outputs[0], other]
        nodes.append(new_node(op_type, inputs, f"{site}.{name}"))

    if weights.down_bias is not None:
        then("Add", weights.down_bias, "biased")
    if activation is not None:
        then(activation, None, "hidden")
    then("MatMul", weights.up, OUT_OF)
    if weights.up_bias is not None:
        then("Add", weights.up_bias, "out_biased")
    if weights.scale is not None:
        then("Mul", weights.scale, "scaled")
    nodes.append(new_node("Add", [value, nodes[-1].outputs[0]], f"{site}.adapted"))
    # Weights may need a Cast first; their nodes stand at the graph's start, so the site is always after them.
    graph.insert_after(producer, nodes)
    for node, index in uses:
        node.replace_input_with(index, nodes[-1].outputs[0])
