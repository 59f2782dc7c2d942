"""Ends a graph in a classifier: `Gemm` from features [B, F] to logits [B, C]."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from mimi_edge.export.graphs import LOGITS

HEAD = "head"
"""Name of the classifier's node."""


@dataclass(frozen=True)
class AppendHead:
    """A pass with the head's weights.

    Attributes:
        weight: [C, F] in fp32.
        bias: [C] in fp32.
        classes: C.
    """

    weight: ir.Value
    bias: ir.Value
    classes: int

    def __call__(self, model: ir.Model) -> bool:
        """Replaces the output `features` by `logits`."""
        features = model.graph.outputs[0]
        batch = "batch" if features.shape is None else features.shape[0]
        logits = ir.Value(name=LOGITS, shape=ir.Shape([batch, self.classes]), type=ir.TensorType(ir.DataType.FLOAT))
        head = ir.node("Gemm", [features, self.weight, self.bias], {"transB": 1}, name=HEAD, outputs=[logits])
        model.graph.append(head)
        model.graph.outputs[0] = logits
        return True
