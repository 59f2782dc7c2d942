"""Tokens that go through all blocks with the image's."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from mimi_edge.export.edits.attentions import end_of, first_user, producer_of, strange
from mimi_edge.export.edits.expressions import Expressions
from mimi_edge.export.passes.surgery import integers, new_constant, new_node
from mimi_edge.methods.edits import Prompts
from mimi_edge.methods.network import Network, norm_before


def insert_prompts(graph: ir.Graph, edit: Prompts, network: Network, expressions: Expressions) -> None:
    """Lets tokens join those of the image in front of the first block, and takes them off behind the last."""
    joined = first_user(expressions.initializer(f"{norm_before(network.blocks[0].attention.name)}.weight")).inputs[0]
    left = end_of(graph, network.blocks[-1].mlp.name)
    if joined is None:
        raise strange(edit.first)
    uses, count = tuple(joined.uses()), expressions.shape(edit.tokens)[0]
    zero, one = expressions.integers(0), expressions.integers(1)
    spread = for_each_image(graph, joined, edit, expressions)
    together = new_node("Concat", [joined, spread], "prompts.joined", axis=1)
    graph.insert_after(producer_of(spread, edit.first), together)
    for node, index in uses:
        node.replace_input_with(index, together.outputs[0])
    before = network.blocks[0].attention.tokens
    for node in _between(together.outputs[0], left):
        if node.op_type == "Reshape":
            _resize(graph, node, before, before + count)
    users = tuple(left.uses())
    fewer = new_node("Slice", [left, zero, expressions.integers(-count), one], "prompts.left")
    graph.insert_after(producer_of(left, edit.last), fewer)
    for node, index in users:
        node.replace_input_with(index, fewer.outputs[0])


def for_each_image(graph: ir.Graph, images: ir.Value | None, edit: Prompts, expressions: Expressions) -> ir.Value:
    """The tokens as many times as there are images [B, ...] in a value, behind which they are made: [B, P, M]."""
    count, width = expressions.shape(edit.tokens)
    tokens = expressions.node("Reshape", expressions.value(edit.tokens), expressions.integers(1, count, width))
    zero, one = expressions.integers(0), expressions.integers(1)
    sizes = new_node("Shape", [images], "prompts.sizes")
    batch = new_node("Slice", [sizes.outputs[0], zero, one, zero], "prompts.batch")
    shape = new_node("Concat", [batch.outputs[0], expressions.integers(count, width)], "prompts.shape", axis=0)
    spread = new_node("Expand", [tokens, shape.outputs[0]], "prompts.spread")
    graph.insert_after(producer_of(images, edit.first), [sizes, batch, shape, spread])
    return spread.outputs[0]


def _between(first: ir.Value, last: ir.Value) -> Iterator[ir.Node]:
    """All nodes on the way from one value to another."""
    waiting, seen = [first], {last}
    for value in waiting:
        for node, _ in value.uses():
            if node.outputs[0] not in seen:
                yield node
                seen.update(node.outputs)
                waiting += node.outputs


def _resize(graph: ir.Graph, node: ir.Node, before: int, after: int) -> None:
    """Lets a Reshape that was written for so many tokens take more."""
    shape = integers(node.inputs[1])
    if shape is not None and before in shape:
        name = f"{node.outputs[0].name}.prompted"
        sizes = np.asarray([after if size == before else size for size in shape], np.int64)
        node.replace_input_with(1, new_constant(graph, name, sizes))
