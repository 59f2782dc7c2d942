"""Drops what the exporter wrote about its own work: stack traces, module paths, documentation, intermediate shapes.

For Swin-T this is over a megabyte, more than a task. Runtimes infer the shapes again when they load the graph.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir


def strip_metadata(model: ir.Model) -> bool:
    """Leaves names, operators, attributes, weights, and the types of inputs, outputs and initializers."""
    graph = model.graph
    before = _remarks(model)
    for holder in (model, graph, *graph.inputs, *graph.initializers.values(), *graph):
        holder.metadata_props.clear()
        holder.doc_string = None
    for initializer in graph.initializers.values():
        if initializer.const_value is not None:
            initializer.const_value.metadata_props.clear()
    for value in _intermediates(graph):
        value.metadata_props.clear()
        value.doc_string = None
        value.shape = None
        value.type = None
    return _remarks(model) != before


def _intermediates(graph: ir.Graph) -> Iterator[ir.Value]:
    outputs = set(graph.outputs)
    for node in graph:
        for value in node.outputs:
            if value not in outputs:
                yield value


def _remarks(model: ir.Model) -> int:
    """How many things there are to strip."""
    graph = model.graph
    holders = (model, graph, *graph.inputs, *graph.initializers.values(), *graph)
    described = sum(len(holder.metadata_props) + (holder.doc_string is not None) for holder in holders)
    return described + sum(value.shape is not None or value.type is not None for value in _intermediates(graph))
