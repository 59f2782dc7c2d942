"""Evaluates what gives a convolution its weights, where a task computes them: TensorRT 10.3 wants them to be constants.

Such are the scaled patches of SSF and the stored ones of full fine-tuning. Weights of other layers may be computed in a
graph; those of convolutions are small, and become constants here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from mimi_edge.export.passes.surgery import Array, constant, content, is_constant, remove_unused

OPERATIONS: Mapping[str, Callable[..., Array]] = {
    "Add": np.add,
    "Mul": np.multiply,
    "MatMul": np.matmul,
    "Reshape": lambda values, shape: values.reshape(shape),
}
"""What expressions of weights are made of, as far as convolutions have them."""


def fold_convolution_weights(model: ir.Model) -> bool:
    """Makes constants of weights and biases of convolutions that depend on constants alone."""
    computed = [
        (node, index, value)
        for node in model.graph
        if node.op_type == "Conv"
        for index, value in enumerate(node.inputs[1:], 1)
        if value is not None and not is_constant(value)
    ]
    for node, index, value in computed:
        folded = constant(f"{value.name}.folded", np.asarray(_evaluated(value), np.float32))
        model.graph.register_initializer(folded)
        node.replace_input_with(index, folded)
        remove_unused(model.graph, value)
    return bool(computed)


def _evaluated(value: ir.Value | None) -> Any:
    """Content of a value that constants alone decide."""
    node = None if value is None or is_constant(value) else value.producer()
    if node is None:
        return content(value)
    inputs = [_evaluated(each) for each in node.inputs]
    if node.op_type == "Transpose":
        return np.transpose(inputs[0], node.attributes["perm"].as_ints())
    if node.op_type not in OPERATIONS:
        raise AssertionError(f"a convolution's weights are computed by {node.op_type}, which is not known here")
    return OPERATIONS[node.op_type](*inputs)
