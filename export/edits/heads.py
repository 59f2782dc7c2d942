"""What a method puts between features and the classifier: hidden layers, and the features of a side network."""

from __future__ import annotations

import onnx_ir as ir

from mimi_edge.export.edits.expressions import Expressions
from mimi_edge.export.graphs import FEATURES
from mimi_edge.export.passes.surgery import new_node
from mimi_edge.methods.edits import Hidden, Side

LAYER = "layer"
"""Behind the name of what a hidden layer gives, that of its product."""
SIDE = "side"
"""What the names of a side network's nodes begin with."""


def append_hidden(graph: ir.Graph, edit: Hidden, expressions: Expressions) -> None:
    """features [B, F] become relu(features @ weight.T + bias)."""
    features = graph.outputs[0]
    name = f"{features.name}.next"
    weights = [expressions.value(edit.weight), expressions.value(edit.bias)]
    layer = new_node("Gemm", [features, *weights], f"{name}.{LAYER}", transB=1)
    _new_features(graph, [layer, new_node("Relu", layer.outputs, name)])


def append_side(graph: ir.Graph, edit: Side, expressions: Expressions) -> None:
    """features become a * features + (1 - a) * side(images)."""
    value, nodes = graph.inputs[0], []
    for number, layer in enumerate(edit.convolutions):
        weights = [expressions.value(layer.weight), expressions.value(layer.bias)]
        steps = [layer.stride, layer.stride]
        convolved = new_node("Conv", [value, *weights], f"{SIDE}.{number}.conv", strides=steps, kernel_shape=steps)
        nodes += [convolved, new_node("Relu", convolved.outputs, f"{SIDE}.{number}")]
        value = nodes[-1].outputs[0]
    mean = new_node("ReduceMean", [value, expressions.integers(2, 3)], f"{SIDE}.mean", keepdims=0)
    projection = [expressions.value(edit.weight), expressions.value(edit.bias)]
    beside = new_node("Gemm", [mean.outputs[0], *projection], f"{SIDE}.features", transB=1)
    share = expressions.node("Sigmoid", expressions.value(edit.blend))
    rest = expressions.node("Sigmoid", expressions.node("Neg", expressions.value(edit.blend)))
    ours = new_node("Mul", [graph.outputs[0], share], f"{SIDE}.backbone")
    theirs = new_node("Mul", [beside.outputs[0], rest], f"{SIDE}.share")
    blended = new_node("Add", [ours.outputs[0], theirs.outputs[0]], f"{FEATURES}.blended")
    _new_features(graph, [*nodes, mean, beside, ours, theirs, blended])


def _new_features(graph: ir.Graph, nodes: list[ir.Node]) -> None:
    """Appends nodes of which the last gives what the classifier takes, of the same shape as before."""
    old, new = graph.outputs[0], nodes[-1].outputs[0]
    new.shape, new.type = old.shape, old.type
    graph.extend(nodes)
    graph.outputs[0] = new
