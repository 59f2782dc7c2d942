"""What one pass of a graph has to do: operations, numbers moved, kernels started. Read off the graph; nothing runs.

Operations are those of `mimi_edge.training.flops` in its `full` form: 2 x multiply-accumulates of matrix products
and convolutions. Elementwise and shape operators are taken to be fused into their neighbours, so they start no kernel
and move nothing. Every other operator is a kernel that reads its inputs and writes its outputs once, and every weight
is read once. A cache that holds activations, or a kernel that fuses whole attention, moves less than this.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimi_edge.errors import ArtifactError, ConfigError
from mimi_edge.profiles.devices.device import ELEMENT_BYTES

if TYPE_CHECKING:
    import onnx

    from mimi_edge.export.external_data import VerifiedGraph
    from mimi_edge.export.graphs import GraphFile

FUSED = frozenset(
    {
        *("Abs", "Add", "Cast", "Clip", "Concat", "Constant", "ConstantOfShape", "DequantizeLinear", "Div", "Equal"),
        *("Erf", "Exp", "Expand", "Flatten", "Gather", "Gelu", "Identity", "Max", "Min", "Mul", "Neg", "Pad", "Pow"),
        *("QuantizeLinear", "Reciprocal", "Relu", "Reshape", "Shape", "Sigmoid", "Slice", "Split", "Sqrt", "Squeeze"),
        *("Sub", "Tanh", "Transpose", "Unsqueeze", "Where"),
    }
)
"""Operators that a good runtime makes part of a neighbouring kernel."""

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Work:
    """What one pass of a graph over a batch has to do.

    Attributes:
        batch: images in it.
        flops: 2 x multiply-accumulates of matrix products and convolutions, for the whole batch.
        weight_elements: numbers in the weights.
        activation_elements: numbers read and written between kernels, for the whole batch.
        kernels: that have to be started.
    """

    batch: int
    flops: int
    weight_elements: int
    activation_elements: int
    kernels: int

    def __post_init__(self) -> None:
        numbers = (self.flops, self.weight_elements, self.activation_elements, self.kernels)
        if self.batch < 1 or min(numbers) < 0:
            raise ConfigError(f"Work has a batch of at least 1 and no negative counts; got {self}.")

    def bytes_moved(self, precision: str) -> int:
        """To and from memory, if every number has this precision."""
        return (self.weight_elements + self.activation_elements) * ELEMENT_BYTES[precision]


def work_of(graph: Path | VerifiedGraph, batch: int = 1) -> Work:
    """Counts the work of a graph at one batch, without reading its weights.

    Args:
        graph: a bare or merged graph of ours, or where it is.
        batch: B of its images [B, 3, H, W].

    Raises:
        ArtifactError: the graph is damaged, refers to what it must not, or its shapes cannot be worked out.
        ConfigError: the batch is below 1.
    """
    from mimi_edge.export.external_data import VerifiedGraph, verify_graph

    if batch < 1:
        raise ConfigError(f"A batch has at least one image, got {batch}.")
    verified = graph if isinstance(graph, VerifiedGraph) else verify_graph(graph)
    model = _with_shapes(verified.graph, batch)
    constants = _constants(model.graph)
    shapes = _shapes(model.graph)
    kernels = [
        node
        for node in model.graph.node
        if node.op_type not in FUSED and not set(filter(None, node.input)) <= constants.keys()
    ]
    missing = sorted({name for node in kernels for name in (*node.input, *node.output) if name and name not in shapes})
    if missing:
        raise ArtifactError(
            f"{verified.path}: the shapes of {len(missing)} values cannot be worked out at batch {batch} "
            f"({', '.join(missing[:5])}). Export the graph again with this mimi-edge."
        )
    return Work(
        batch=batch,
        flops=sum(_flops(node, shapes) for node in kernels),
        weight_elements=sum(_floating_elements(model.graph)),
        activation_elements=sum(
            math.prod(shapes[name])
            for node in kernels
            for name in (*node.input, *node.output)
            if name and name not in constants
        ),
        kernels=len(kernels),
    )


def _with_shapes(graph: GraphFile, batch: int) -> onnx.ModelProto:
    """The graph with a fixed batch and the shape of every value; weights stay where they lie."""
    import onnx

    model = onnx.ModelProto()
    model.CopyFrom(graph.proto)
    del model.graph.value_info[:]
    held = {tensor.name for tensor in model.graph.initializer}
    for value in model.graph.input:
        if value.name not in held and value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_value = batch
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    try:
        return onnx.shape_inference.infer_shapes(model, data_prop=True, strict_mode=True)
    except Exception as error:  # the checker's own kinds, without a common base
        raise ArtifactError(
            f"{graph.path} does not fit together at batch {batch}: {error}. Export it again."
        ) from error


def _shapes(graph: onnx.GraphProto) -> Shapes:
    """Of every value whose shape is known to the last number."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        dims = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(dim.HasField("dim_value") for dim in dims):
            shapes[value.name] = tuple(dim.dim_value for dim in dims)
    return shapes


def _constants(graph: onnx.GraphProto) -> dict[str, None]:
    """Initializers, and what is computed from nothing but them."""
    known = dict.fromkeys(tensor.name for tensor in graph.initializer)
    for node in graph.node:
        if all(name in known for name in node.input if name):
            known |= dict.fromkeys(node.output)
    return known


def _floating_elements(graph: onnx.GraphProto) -> Iterator[int]:
    """Numbers in every weight; whole numbers of eight bytes are shapes and indices."""
    from onnx import TensorProto

    used = {name for node in graph.node for name in node.input}
    for tensor in graph.initializer:
        if tensor.name in used and tensor.data_type not in {TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL}:
            yield math.prod(tensor.dims)


def _flops(node: onnx.NodeProto, shapes: Shapes) -> int:
    if node.op_type == "MatMul":
        return 2 * math.prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]
    if node.op_type == "Gemm":
        inner = shapes[node.input[0]][0 if _attribute(node, "transA") else 1]
        return 2 * math.prod(shapes[node.output[0]]) * inner
    if node.op_type == "Conv":
        return 2 * math.prod(shapes[node.output[0]]) * math.prod(shapes[node.input[1]][1:])
    return 0


def _attribute(node: onnx.NodeProto, name: str) -> Any:
    return next((attribute.i for attribute in node.attribute if attribute.name == name), 0)
