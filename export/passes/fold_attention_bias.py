"""Makes one additive constant of a window's position bias and its shift mask.

Swin adds the bias [1, H, T, T] to attention's scores [B x windows, H, T, T], then sees them as [B, windows, H, T, T]
to add the mask [1, windows, 1, T, T]. Their sum does both at once.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from mimi_edge.export.passes.surgery import (
    content,
    integers,
    is_constant,
    new_constant,
    only_user,
    remove_unused,
    size_of,
)


def fold_attention_bias(model: ir.Model) -> bool:
    """Replaces `Add, Reshape, Add` with two constant summands by `Reshape, Add` with one."""
    masked = [node for node in model.graph if node.op_type == "Add"]
    folded = [_fold(model.graph, node) for node in masked if node.graph is not None]
    return any(folded)


def _fold(graph: ir.Graph, add: ir.Node) -> bool:
    view = only_user(add.outputs[0])
    summands = _summands(add)
    if view is None or view.op_type != "Reshape" or view.inputs[0] is not add.outputs[0] or summands is None:
        return False
    masking = only_user(view.outputs[0])
    masked = None if masking is None or masking.op_type != "Add" else _summands(masking)
    shape = integers(view.inputs[1])
    scores, bias = summands
    if masking is None or masked is None or shape is None or not _splits_windows(bias, masked[1], shape):
        return False
    both = content(bias)[np.newaxis] + content(masked[1])
    total = new_constant(graph, f"{masking.outputs[0].name}.bias", both)
    view.replace_input_with(0, scores)
    masking.replace_input_with(list(masking.inputs).index(masked[1]), total)
    remove_unused(graph, add.outputs[0])
    remove_unused(graph, masked[1])
    return True


def _summands(add: ir.Node) -> tuple[ir.Value, ir.Value] | None:
    """The summand that varies and the constant one."""
    first, second = add.inputs
    if first is None or second is None or is_constant(first) == is_constant(second):
        return None
    return (second, first) if is_constant(first) else (first, second)


def _splits_windows(bias: ir.Value, mask: ir.Value, shape: tuple[int, ...]) -> bool:
    """Whether the view only takes windows out of the first axis, which the bias does not have."""
    size, mask_size = size_of(bias), size_of(mask)
    return (
        size is not None
        and mask_size is not None
        and len(shape) == len(mask_size) == len(size) + 1
        and shape[0] == -1
        and size[0] == mask_size[0] == 1
        and shape[2:] == size[1:]
    )
