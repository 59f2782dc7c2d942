"""Puts a task's adapters into a backbone graph: `MatMul, Gelu, MatMul, Add` at each site that has neurons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from mimi_edge.export.writing import raise_opset

ACTIVATIONS = {"gelu": "Gelu", "relu": "Relu"}
"""Our names and ONNX's; `Gelu` without attributes is the exact one."""


@dataclass(frozen=True)
class InsertAdapters:
    """A pass with the weights to insert.

    Attributes:
        weights: for each site, the values of down [M, N] and up [N, M] in fp32.
        activation: phi, a key of ACTIVATIONS.
    """

    weights: Mapping[str, tuple[ir.Value, ir.Value]]
    activation: str

    def __call__(self, model: ir.Model) -> bool:
        """Turns every value h of a site into h + phi(h @ down) @ up; sites without weights stay as they are."""
        raise_opset(model)
        produced = {value.name: value for node in model.graph for value in node.outputs}
        for site, (down, up) in self.weights.items():
            _insert(model.graph, produced[site], down, up, ACTIVATIONS[self.activation])
        return bool(self.weights)


def _insert(graph: ir.Graph, value: ir.Value, down: ir.Value, up: ir.Value, activation: str) -> None:
    producer = value.producer()
    if producer is None:
        raise AssertionError(f"site value {value.name} is not computed by any node")
    uses = tuple(value.uses())
    site = value.name
    into = _node("MatMul", [value, down], f"{site}.into")
    hidden = _node(activation, into.outputs, f"{site}.hidden")
    out_of = _node("MatMul", [hidden.outputs[0], up], f"{site}.out_of")
    adapted = _node("Add", [value, out_of.outputs[0]], f"{site}.adapted")
    # Weights may need a Cast first; their nodes stand at the graph's start, so the site is always after them.
    graph.insert_after(producer, [into, hidden, out_of, adapted])
    for node, index in uses:
        node.replace_input_with(index, adapted.outputs[0])


def _node(op_type: str, inputs: Sequence[ir.Value], name: str) -> ir.Node:
    return ir.node(op_type, list(inputs), name=name, outputs=[ir.Value(name=name)])
