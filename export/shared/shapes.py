"""Shapes of a graph's values at a given batch, found without running it and without reading its weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from mimi_edge.errors import ArtifactError

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Shapes:
    """Shapes of everything that follows the batch, and of what does not.

    Attributes:
        one: at batch 1, by the values' names.
        two: at batch 2.
    """

    one: Mapping[str, Shape]
    two: Mapping[str, Shape]

    def of_image(self, value: ir.Value) -> Shape:
        """The shape at batch 1; the leading dimension is how many rows one image has there, such as its windows.

        Raises:
            ArtifactError: the value is not made of rows of one image after those of another.
        """
        one, two = self.one.get(value.name or ""), self.two.get(value.name or "")
        if not one or not two or two != (2 * one[0], *one[1:]):
            raise ArtifactError(
                f"The graph's value {value.name} has shape {one} for one image and {two} for two; expected twice as "
                "many rows. This backbone cannot share blocks between tasks: use one graph for each task."
            )
        return one


def shapes_of(model: ir.Model) -> Shapes:
    """Infers the shapes of a graph whose inputs all start with the batch."""
    return Shapes(_inferred(model, 1), _inferred(model, 2))


def flops_of(nodes: Iterable[ir.Node], shapes: Shapes) -> int:
    """2 x multiply-accumulates of products and convolutions for one image; what else there is counts nothing."""
    return sum(_flops(node, shapes.one) for node in nodes)


def _inferred(model: ir.Model, batch: int) -> dict[str, Shape]:
    import onnx

    proto = ir.to_proto(model)
    for given in proto.graph.input:
        given.type.tensor_type.shape.dim[0].dim_value = batch
    # What the file says about its output speaks of any batch; inference finds it again for this one.
    for output in proto.graph.output:
        output.type.tensor_type.ClearField("shape")
    # Shapes that are computed from others, as that of a class token, need the values of small constants.
    graph = onnx.shape_inference.infer_shapes(proto, data_prop=True).graph
    found = {value.name: _shape(value) for value in (*graph.input, *graph.value_info, *graph.output)}
    found |= {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    return {name: shape for name, shape in found.items() if shape is not None}


def _shape(value: object) -> Shape | None:
    """None where a dimension stayed unknown."""
    tensor = value.type.tensor_type  # type: ignore[attr-defined]  # protobuf's classes are made at run time
    if not tensor.HasField("shape") or not all(size.HasField("dim_value") for size in tensor.shape.dim):
        return None
    return tuple(size.dim_value for size in tensor.shape.dim)


def _flops(node: ir.Node, shapes: Mapping[str, Shape]) -> int:
    if node.op_type not in {"MatMul", "Gemm", "Conv"}:
        return 0
    left, right = (shapes.get(value.name or "") if value is not None else None for value in node.inputs[:2])
    result = shapes.get(node.outputs[0].name or "")
    if left is None or right is None or result is None:
        return 0
    terms = math.prod(right[1:]) if node.op_type == "Conv" else left[-1]
    return 2 * math.prod(result) * terms
