"""Finds where attention's queries, keys and values come from, as our exporter writes it.

One linear layer gives all three, [B, T, 3 x H x D]. A view and a transposition make [3, B, H, T, D] of it, and three
slices along the first axis take it apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir

from mimi_edge.export.passes.surgery import Linear, integers, linear_of, only_user

PARTS_FIRST = (2, 0, 3, 1, 4)


@dataclass(frozen=True)
class Projection:
    """Queries, keys and values of one attention sub-layer.

    Attributes:
        linear: the layer that computes all three.
        tokens: T.
        heads: H.
        depth: D.
        parts: queries, keys and values, [B, H, T, D] each.
    """

    linear: Linear
    tokens: int
    heads: int
    depth: int
    parts: tuple[ir.Value, ir.Value, ir.Value]

    @property
    def width(self) -> int:
        """H x D, columns of each part."""
        return self.heads * self.depth


def projections(graph: ir.Graph) -> list[Projection]:
    """Every projection of a graph; nothing but the three parts takes any of what is between."""
    return list(_projections(graph))


def _projections(graph: ir.Graph) -> Iterator[Projection]:
    for node in graph:
        if node.op_type != "Transpose" or tuple(node.attributes["perm"].as_ints()) != PARTS_FIRST:
            continue
        view = None if node.inputs[0] is None else node.inputs[0].producer()
        if view is None or view.op_type != "Reshape" or only_user(view.outputs[0]) is not node:
            continue
        linear = linear_of(view.inputs[0])
        shape = integers(view.inputs[1])
        parts = _parts(node.outputs[0])
        if linear is None or parts is None or only_user(linear.output) is not view:
            continue
        if shape is not None and len(shape) == 5 and shape[2] == 3:
            yield Projection(linear, shape[1], shape[3], shape[4], parts)


def _parts(stacked: ir.Value) -> tuple[ir.Value, ir.Value, ir.Value] | None:
    found = dict(part for use in stacked.uses() if (part := _part(use.node)) is not None)
    if set(found) != {0, 1, 2} or len(tuple(stacked.uses())) != 3:
        return None
    return found[0], found[1], found[2]


def _part(cut: ir.Node) -> tuple[int, ir.Value] | None:
    """Which part a `Slice` of one row of the first axis takes, and the part behind its `Squeeze`."""
    if cut.op_type != "Slice":
        return None
    start, end, axes = (integers(value) for value in cut.inputs[1:4])
    squeeze = only_user(cut.outputs[0])
    if start is None or axes != (0,) or end != (start[0] + 1,) or squeeze is None or squeeze.op_type != "Squeeze":
        return None
    return (start[0], squeeze.outputs[0]) if integers(squeeze.inputs[1]) == (0,) else None
