"""Finds the parts of an attention in a graph, by how they follow one another."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx_ir as ir

from mimi_edge.errors import ArtifactError
from mimi_edge.export.passes.surgery import is_constant

TO_THE_END = np.iinfo(np.int64).max


def first_behind(values: Iterable[ir.Value], op_type: str, place: str) -> ir.Node:
    """The nearest node of a type that what is computed here goes into."""
    waiting = list(values)
    for value in waiting:
        for node, _ in value.uses():
            if node.op_type == op_type:
                return node
            waiting += node.outputs
    raise strange(place)


def product_before(softmax: ir.Node, place: str) -> ir.Node:
    """The product whose result, after biases and masks, the softmax takes."""
    value = softmax.inputs[0]
    while value is not None and (node := value.producer()) is not None:
        if node.op_type == "MatMul":
            return node
        value = next((each for each in node.inputs if each is not None and not is_constant(each)), None)
    raise strange(place)


def end_of(graph: ir.Graph, site: str) -> ir.Value:
    """What a block ends with: the sum of its residual and its MLP."""
    value = next(value for node in graph for value in node.outputs if value.name == site)
    return first_behind([value], "Add", site).outputs[0]


def first_user(value: ir.Value) -> ir.Node:
    """The node that takes a value, or the first that did."""
    return next(iter(value.uses())).node


def producer_of(value: ir.Value | None, place: str) -> ir.Node:
    """The node that computes a value."""
    node = None if value is None else value.producer()
    if node is None:
        raise strange(place)
    return node


def strange(place: str) -> ArtifactError:
    """What is said of a graph that is not written as ours are."""
    return ArtifactError(
        f"The graph of this backbone does not compute {place} as mimi-edge knows it, so tokens cannot be put there. "
        "Export the backbone again with the versions in constraints.txt."
    )
