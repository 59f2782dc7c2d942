"""How every graph of ours is written: for the oldest reader that can run it, and without what a reader infers itself.

A runtime refuses a file whose IR version or operator set is newer than itself, even where nothing in the graph is new.
And shapes written beside a graph help nobody: runtimes infer them, and some believe those that do not fit their batch.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mimi_edge.export.graphs import OPSET
from mimi_edge.files import write_whole

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

DEFAULT_DOMAIN = ""
WRITTEN_AS = 3
"""Goes up when the same graph is written with other bytes, so that caches make theirs again."""
SMALL_BYTES = 256
"""Tensors up to this size stay in the graph: shapes, axes and scales."""


def save_graph(model: ir.Model, path: Path) -> int:
    """Writes a graph; what it takes from other files stays there. The same model gives the same bytes.

    Returns:
        Its size in bytes, without the weights in other files.

    Raises:
        OSError: the disk is full; nothing is left behind.
    """
    content = graph_bytes(model)
    write_whole(path, content)
    return len(content)


def save_with_weights(model: ir.Model, path: Path, weights: str) -> None:
    """Writes a graph, and what it holds in memory into a file of that name beside it."""
    from onnx_ir.external_data import unload_from_model

    save_graph(unload_from_model(model, path.parent, weights, size_threshold_bytes=SMALL_BYTES), path)


def graph_bytes(model: ir.Model) -> bytes:
    """What a file of this graph holds."""
    content: bytes = graph_proto(model).SerializeToString(deterministic=True)
    return content


def graph_proto(model: ir.Model) -> onnx.ModelProto:
    """The graph as it is written: lowest operator set and IR version, no shapes of what the graph computes."""
    import onnx_ir

    proto = onnx_ir.to_proto(model)
    for graph in _with_inner_graphs(proto.graph):
        del graph.value_info[:]
    for entry in proto.opset_import:
        if entry.domain == DEFAULT_DOMAIN:
            entry.version = _lowest_opset(proto, entry.version)
    proto.ir_version = _lowest_ir_version(proto)
    return proto


def raise_opset(model: ir.Model) -> None:
    """Lets a graph that was read take nodes of OPSET; what is in it means the same there, because we wrote it."""
    model.opset_imports[DEFAULT_DOMAIN] = max(OPSET, model.opset_imports.get(DEFAULT_DOMAIN, 0))


def _lowest_opset(proto: onnx.ModelProto, stated: int) -> int:
    """The oldest operator set in which every node is what it is in the stated one."""
    import onnx

    used = {node.op_type for graph in _with_inner_graphs(proto.graph) for node in graph.node if not node.domain}
    used |= {node.op_type for function in proto.functions for node in function.node if not node.domain}
    if not all(onnx.defs.has(name, stated, DEFAULT_DOMAIN) for name in used):
        return stated
    return max((onnx.defs.get_schema(name, stated, DEFAULT_DOMAIN).since_version for name in used), default=stated)


def _lowest_ir_version(proto: onnx.ModelProto) -> int:
    from onnx import helper

    if _has_remarks(proto):
        return int(proto.ir_version)
    return int(helper.find_min_ir_version_for(list(proto.opset_import), ignore_unknown=True))


def _has_remarks(proto: onnx.ModelProto) -> bool:
    """Whether parts of the graph carry metadata of their own, which IR version 10 brought."""
    graphs = list(_with_inner_graphs(proto.graph))
    holders = [*graphs, *(each for graph in graphs for each in (*graph.node, *graph.initializer, *graph.input))]
    return any(holder.metadata_props for holder in holders)


def _with_inner_graphs(graph: onnx.GraphProto) -> list[onnx.GraphProto]:
    """A graph and those inside its nodes."""
    inner = [
        each
        for node in graph.node
        for attribute in node.attribute
        for own in ([attribute.g] if attribute.HasField("g") else list(attribute.graphs))
        for each in _with_inner_graphs(own)
    ]
    return [graph, *inner]
