"""Takes attention's queries, keys and values apart before they are rearranged, not after.

The exporter rearranges all three together and then cuts the result with `Slice, Squeeze` three times. Split first, each
part is rearranged once, the keys at once into the order that the scores need.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from mimi_edge.export.passes.projections import Projection, projections
from mimi_edge.export.passes.surgery import new_constant, new_node, only_user, remove_unused

HEADS_FIRST = (0, 2, 1, 3)
DEPTH_BEFORE_TOKENS = (0, 2, 3, 1)
KEYS_TURNED = (0, 1, 3, 2)
NAMES = ("queries", "keys", "values")


def split_projections(model: ir.Model) -> bool:
    """Replaces every `Reshape, Transpose, (Slice, Squeeze) x 3` by `Split, (Reshape, Transpose) x 3`."""
    found = projections(model.graph)
    for projection in found:
        _split(model.graph, projection)
    return bool(found)


def _split(graph: ir.Graph, projection: Projection) -> None:
    name = projection.linear.output.name
    sizes = new_constant(graph, f"{name}.sizes", np.full(3, projection.width, np.int64))
    shape = np.asarray([-1, projection.tokens, projection.heads, projection.depth], np.int64)
    view = new_constant(graph, f"{name}.shape", shape)
    flat = [ir.Value(name=f"{name}.{part}") for part in NAMES]
    split = ir.node("Split", [projection.linear.output, sizes], {"axis": -1}, name=f"{name}.split", outputs=flat)
    graph.insert_after(projection.linear.nodes[-1], [split])
    for part, columns in zip(projection.parts, flat, strict=True):
        _rearrange(graph, part, columns, view)


def _rearrange(graph: ir.Graph, part: ir.Value, columns: ir.Value, shape: ir.Value) -> None:
    """[B, T, H x D] -> [B, H, T, D], or [B, H, D, T] where all that follows is to turn it so."""
    turn = only_user(part)
    turned = turn is not None and turn.op_type == "Transpose" and _order(turn) == KEYS_TURNED
    old = turn.outputs[0] if turn is not None and turned else part
    viewed = new_node("Reshape", [columns, shape], f"{columns.name}.view")
    order = DEPTH_BEFORE_TOKENS if turned else HEADS_FIRST
    moved = new_node("Transpose", [viewed.outputs[0]], f"{columns.name}.moved", perm=order)
    producer = columns.producer()
    if producer is None:
        raise AssertionError(f"{columns.name} is not computed by any node")
    graph.insert_after(producer, [viewed, moved])
    ir.convenience.replace_all_uses_with(old, moved.outputs[0], replace_graph_outputs=True)
    remove_unused(graph, old)


def _order(node: ir.Node) -> tuple[int, ...]:
    return tuple(node.attributes["perm"].as_ints())
