"""Writes the size of its kernel on every `Conv`, where ONNX lets a reader find it in the weights.

TensorRT 10.3 finds it there only while the weights are a plain constant: behind a `Cast` or `DequantizeLinear` it reads
a kernel without a size, unless the node says it. Not every release of the exporter does.
"""

from __future__ import annotations

import onnx_ir as ir

from mimi_edge.export.passes.surgery import size_of

KERNEL_SHAPE = "kernel_shape"
SPATIAL = 2
"""Axis of a kernel [M, C, ...] from which on its size is."""


def write_kernel_shapes(model: ir.Model) -> bool:
    """Gives every `Conv` whose weights are a constant the attribute `kernel_shape`."""
    silent = [node for node in model.graph if node.op_type == "Conv" and KERNEL_SHAPE not in node.attributes]
    sizes = [(node, size) for node in silent if (size := size_of(node.inputs[1])) is not None]
    for node, size in sizes:
        node.attributes[KERNEL_SHAPE] = ir.AttrInt64s(KERNEL_SHAPE, size[SPATIAL:])
    return bool(sizes)
