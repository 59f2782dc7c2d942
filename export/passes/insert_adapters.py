"""Puts a task's adapters into a backbone graph: `MatMul, Gelu, MatMul, Add` at each site that has neurons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from mimi_edge.export.edits.branches import ACTIVATIONS, BranchValues, insert_branch
from mimi_edge.export.graph_files import raise_opset


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
            insert_branch(model.graph, produced[site], BranchValues(down, up), ACTIVATIONS[self.activation])
        return bool(self.weights)
