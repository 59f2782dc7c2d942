"""Computes once what depends on weights alone, such as Swin V2's position biases, and drops what is then unused."""

from __future__ import annotations

import onnx_ir as ir

ANY_SIZE = 1 << 31


def fold_constants(model: ir.Model) -> bool:
    """Replaces nodes whose inputs are all constant by their results; only where onnxscript is installed."""
    from onnx_ir.passes.common import RemoveUnusedNodesPass
    from onnxscript import optimizer

    folded = optimizer.fold_constants(model, input_size_limit=ANY_SIZE, output_size_limit=ANY_SIZE)
    unused = RemoveUnusedNodesPass()(model)
    return bool(folded.modified or unused.modified)
