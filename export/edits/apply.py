"""The ONNX interpreter of edits: everything that a description does to a network, done to its graph."""

from __future__ import annotations

import onnx_ir as ir

from mimi_edge.export.edits.branches import ACTIVATIONS, BranchValues, insert_branch
from mimi_edge.export.edits.carried import insert_carried
from mimi_edge.export.edits.expressions import Expressions
from mimi_edge.export.edits.heads import append_hidden, append_side
from mimi_edge.export.edits.prompts import insert_prompts
from mimi_edge.export.edits.replacements import prepared_replacement
from mimi_edge.export.edits.tokens import insert_tokens
from mimi_edge.export.graph_files import raise_opset
from mimi_edge.export.graphs import GraphInfo
from mimi_edge.export.task_weights import TaskWeights
from mimi_edge.methods.description import Description
from mimi_edge.methods.edits import Branch, Edit, Hidden, Prompts, Replace, Side, Tokens
from mimi_edge.methods.network import Network
from mimi_edge.methods.weights import Weight


def apply_edits(model: ir.Model, description: Description, weights: TaskWeights, info: GraphInfo) -> None:
    """Does to a backbone's graph what a description says, and drops what the backbone then no longer needs.

    Args:
        model: of the bare backbone; changed.
        description: of a task on this backbone.
        weights: of the task; the caller places what they and the edits compute of constants alone.
        info: what the graph says about itself.

    Raises:
        ArtifactError: the graph does not have what an edit changes.
    """
    raise_opset(model)
    graph = model.graph
    expressions = Expressions(graph, weights, description.shapes, info.parameters or {})
    produced = {value.name: value for node in graph for value in node.outputs}
    reads = {
        edit.place: _input_of(edit.place, info.network, expressions)
        for edit in description.edits
        if isinstance(edit, Branch) and edit.parallel
    }
    replacements = [prepared_replacement(edit, expressions) for edit in description.edits if isinstance(edit, Replace)]
    for replace in replacements:
        replace()
    for edit in description.edits:
        if isinstance(edit, Branch):
            _insert_branch(graph, edit, produced[edit.place], reads.get(edit.place), expressions)
        else:
            _apply(graph, edit, info.network, expressions)
    if replacements or any(isinstance(edit, Prompts) for edit in description.edits):
        _drop_unused(graph)


def _apply(graph: ir.Graph, edit: Edit, network: Network, expressions: Expressions) -> None:
    match edit:
        case Tokens():
            insert_tokens(graph, edit, network, expressions)
        case Prompts() if network.looks_at_windows:
            insert_carried(graph, edit, network, expressions)
        case Prompts():
            insert_prompts(graph, edit, network, expressions)
        case Hidden():
            append_hidden(graph, edit, expressions)
        case Side():
            append_side(graph, edit, expressions)


def _insert_branch(
    graph: ir.Graph, edit: Branch, value: ir.Value, read: ir.Value | None, expressions: Expressions
) -> None:
    def optional(weight: Weight | None) -> ir.Value | None:
        return None if weight is None else expressions.value(weight)

    scale = edit.scale
    if isinstance(scale, float | int):
        factor = None if scale == 1 else expressions.number(scale)
    else:
        factor = expressions.value(scale)
    down, up = expressions.value(edit.down), expressions.value(edit.up)
    values = BranchValues(down, up, optional(edit.down_bias), optional(edit.up_bias), factor)
    insert_branch(graph, value, values, ACTIVATIONS.get(edit.activation), read)


def _input_of(place: str, network: Network, expressions: Expressions) -> ir.Value | None:
    """What a sub-layer reads: its first layer's input."""
    first = expressions.initializer(network.layers(place)[0].weight)
    return next(node.inputs[0] for node, _ in first.uses())


def _drop_unused(graph: ir.Graph) -> None:
    """Weights and shapes of the backbone that were replaced need not be loaded."""
    for name in [name for name, value in graph.initializers.items() if not value.uses()]:
        del graph.initializers[name]
