"""The same graph for ONNX Runtime: adapters and head are inputs with a default, which an adapter file overrides.

A site's input has as many neurons as the active task needs, so tasks are not padded. Whoever forgets to activate a task
gets logits that are no numbers, and not some class.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir

from mimi_edge.export.graphs import load_graph
from mimi_edge.export.passes.append_head import AppendHead
from mimi_edge.export.passes.insert_adapters import InsertAdapters
from mimi_edge.export.passes.surgery import new_node
from mimi_edge.export.shared.inputs import tensor_shapes
from mimi_edge.export.shared.layout import SharedLayout
from mimi_edge.export.shared.nodes import add_input
from mimi_edge.tasks.stores import Store
from mimi_edge.tasks.task import DOWN, HEAD_BIAS, HEAD_WEIGHT, UP

CLASSES = "classes"
"""Name of the dimension C."""


def overridable_model(backbone_graph: Path, layout: SharedLayout, store: Store, *, padded: bool) -> ir.Model:
    """A backbone with adapters and head that a run may override; the backbone's weights are not read.

    Args:
        backbone_graph: `backbone.onnx`, of the layout's backbone.
        layout: which sites have inputs; their neurons and the classes count only where `padded`.
        store: fp16 or fp32, the type of the inputs; the products are fp32 always.
        padded: give the inputs the layout's fixed shapes, for a runtime that compiles for shapes.
    """
    model = load_graph(backbone_graph)
    shapes = tensor_shapes(layout)
    given = {name: _input(model.graph, name, shape, store, padded) for name, shape in shapes.items()}
    if store is Store.FP16:
        given = _in_fp32(model.graph, given)
    InsertAdapters({site: (given[site + DOWN], given[site + UP]) for site in layout.sites}, layout.activation)(model)
    AppendHead(given[HEAD_WEIGHT], given[HEAD_BIAS], layout.classes)(model)
    logits = model.graph.outputs[0]
    if not padded and logits.shape is not None:
        logits.shape = ir.Shape([logits.shape[0], CLASSES])
    model.graph.name = "adapters"
    return model


def _input(graph: ir.Graph, name: str, shape: tuple[int, ...], store: Store, padded: bool) -> ir.Value:
    dtype = ir.DataType.FLOAT16 if store is Store.FP16 else ir.DataType.FLOAT
    value = add_input(graph, name, dtype, shape if padded else _open_shape(name, shape))
    # One neuron of zeros and not none at all: products over nothing are where runtimes differ.
    sizes = shape if padded else [size if isinstance(size, int) else 1 for size in _open_shape(name, shape)]
    content = np.full(sizes, np.nan if name == HEAD_BIAS else 0, store.weight_dtype)
    value.const_value = ir.tensor(content, name=name)
    graph.register_initializer(value)
    return value


def _open_shape(name: str, shape: tuple[int, ...]) -> Sequence[int | str]:
    """The shape with a name for what differs from task to task."""
    if name == HEAD_WEIGHT:
        return CLASSES, shape[1]
    if name == HEAD_BIAS:
        return (CLASSES,)
    if name.endswith(DOWN):
        return shape[0], f"{name.removesuffix(DOWN)}.neurons"
    return f"{name.removesuffix(UP)}.neurons", shape[1]


def _in_fp32(graph: ir.Graph, given: dict[str, ir.Value]) -> dict[str, ir.Value]:
    casts = {name: new_node("Cast", [value], f"{name}.cast", to=ir.DataType.FLOAT) for name, value in given.items()}
    graph.insert_before(graph[0], list(casts.values()))
    return {name: cast.outputs[0] for name, cast in casts.items()}
