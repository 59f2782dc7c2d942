"""Tokens that go through all blocks beside the image's, where attention looks at windows.

The image's tokens are in places there, so nothing can be among them: the others are a value of their own, [B, P, M].
Each is normalised and projected once an image, however many windows look at it. And since a mean of projections is the
projection of a mean, what it becomes in each window is averaged in front of the attention's last layer, not behind it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count

import numpy as np
import onnx_ir as ir

from mimi_edge.export.edits.attentions import TO_THE_END, end_of, first_behind, first_user, producer_of, product_before
from mimi_edge.export.edits.expressions import Expressions
from mimi_edge.export.edits.prompts import for_each_image
from mimi_edge.export.passes.surgery import integers, is_constant, new_constant, new_node, size_of
from mimi_edge.methods.edits import Prompts
from mimi_edge.methods.network import Block, Layer, Merging, Network, norm_before, norm_between


def insert_carried(graph: ir.Graph, edit: Prompts, network: Network, expressions: Expressions) -> None:
    """Carries tokens from the first block to the last, where they end."""
    first = first_user(expressions.initializer(f"{norm_before(network.blocks[0].attention.name)}.weight")).inputs[0]
    tokens = for_each_image(graph, first, edit, expressions)
    added = expressions.shape(edit.tokens)[0]
    for block in network.blocks:
        if merging := network.merging_before(block):
            tokens = _merged(graph, tokens, merging, expressions)
        tokens = _through_attention(graph, tokens, added, block, network, expressions)
        tokens = _through_mlp(graph, tokens, added, block, expressions)


@dataclass
class _Line:
    """Nodes one behind another, from a node of the graph on.

    Attributes:
        graph: they are put into.
        behind: the last one.
        place: what they are called after.
    """

    graph: ir.Graph
    behind: ir.Node
    place: str
    _numbers: Iterator[int] = field(default_factory=count)

    def add(self, op_type: str, *inputs: ir.Value | None, **attributes: float | list[int]) -> ir.Value:
        """The result of another node."""
        node = new_node(op_type, inputs, f"{self.place}.{next(self._numbers)}", **attributes)
        self.graph.insert_after(self.behind, node)
        self.behind = node
        return node.outputs[0]

    def normalised(self, tokens: ir.Value, norm: str, expressions: Expressions) -> ir.Value:
        """Tokens behind a normalisation of the backbone."""
        weight, bias = expressions.initializer(f"{norm}.weight"), expressions.initializer(f"{norm}.bias")
        epsilon = first_user(weight).attributes["epsilon"].as_float()
        return self.add("LayerNormalization", tokens, weight, bias, axis=-1, epsilon=epsilon)

    def projected(self, tokens: ir.Value, layer: Layer, expressions: Expressions) -> ir.Value:
        """Tokens behind a layer of the backbone."""
        product = self.add("MatMul", tokens, _product_of(layer, expressions).inputs[1])
        return self.add("Add", product, expressions.initializer(layer.bias)) if layer.has_bias else product

    def split(self, joined: ir.Value, added: int, expressions: Expressions) -> tuple[ir.Value, ir.Value]:
        """The image's tokens, which all who took the joined ones now take, and the last ones, so many."""
        uses, axis, where = tuple(joined.uses()), expressions.integers(1), expressions.integers(-added)
        images = self.add("Slice", joined, expressions.integers(0), where, axis)
        for node, index in uses:
            node.replace_input_with(index, images)
        return images, self.add("Slice", joined, where, expressions.integers(TO_THE_END), axis)


def _merged(graph: ir.Graph, tokens: ir.Value, merging: Merging, expressions: Expressions) -> ir.Value:
    """Each with three like itself, behind the layer that merges the image's."""
    line = _Line(graph, producer_of(tokens, merging.place), f"{merging.place}.prompts")
    wide = line.add("Concat", tokens, tokens, tokens, tokens, axis=-1)
    return line.projected(line.normalised(wide, merging.norm, expressions), merging.layer, expressions)


def _through_attention(
    graph: ir.Graph, tokens: ir.Value, added: int, block: Block, network: Network, expressions: Expressions
) -> ir.Value:
    place, layers = block.attention.name, network.layers(block.attention.name)
    images = _output_of(layers[0], expressions)
    by_head = first_behind([images], "Reshape", place)
    softmax = first_behind([by_head.outputs[0]], "Softmax", place)
    flat = first_behind([first_behind(softmax.outputs, "MatMul", place).outputs[0]], "Reshape", place)
    window = (integers(by_head.inputs[1]) or (0, 0, 0, 0))[-4]
    windows = block.attention.tokens // window

    line = _Line(graph, producer_of(images, place), f"{place}.prompts")
    own = line.projected(line.normalised(tokens, norm_before(place), expressions), layers[0], expressions)
    spread = _spread(line, own, windows, expressions.integers(-1, added, layers[0].outputs), expressions)
    by_head.replace_input_with(0, line.add("Concat", images, spread, axis=1))
    _lengthen(graph, by_head, window + added, -4)
    for node in _between(product_before(softmax, place).outputs[0], softmax):
        if node.op_type == "Reshape":
            _lengthen(graph, node, window + added, -2, -1)
        else:
            _pad_constants(node, added, expressions)
    _lengthen(graph, flat, window + added, -2)

    line = _Line(graph, flat, f"{place}.prompted")
    _, answers = line.split(flat.outputs[0], added, expressions)
    averaged = _averaged(line, answers, windows, expressions.integers(-1, windows, added, block.width), expressions)
    return line.add("Add", tokens, line.projected(averaged, layers[-1], expressions))


def _through_mlp(graph: ir.Graph, tokens: ir.Value, added: int, block: Block, expressions: Expressions) -> ir.Value:
    """An MLP looks at each token alone, and takes more of them as they are, one behind the other."""
    place = block.mlp.name
    images = first_user(expressions.initializer(f"{norm_between(block)}.weight")).inputs[0]
    before = producer_of(images, place)
    uses = tuple(before.outputs[0].uses())
    joined = _Line(graph, before, f"{place}.prompts").add("Concat", images, tokens, axis=1)
    for node, index in uses:
        node.replace_input_with(index, joined)
    left = end_of(graph, place)
    _, answers = _Line(graph, producer_of(left, place), f"{place}.prompted").split(left, added, expressions)
    return answers


def _spread(line: _Line, tokens: ir.Value, windows: int, shape: ir.Value, expressions: Expressions) -> ir.Value:
    """[B, P, M] for all windows of an image: [B x windows, P, M], of that shape."""
    if windows == 1:
        return tokens
    once = line.add("Unsqueeze", tokens, expressions.integers(1))
    return line.add("Reshape", line.add("Expand", once, expressions.integers(1, windows, 1, 1)), shape)


def _averaged(line: _Line, answers: ir.Value, windows: int, shape: ir.Value, expressions: Expressions) -> ir.Value:
    """[B x windows, P, M] over the windows of an image, [B, windows, P, M] of that shape: [B, P, M]."""
    if windows == 1:
        return answers
    return line.add("ReduceMean", line.add("Reshape", answers, shape), expressions.integers(1), keepdims=0)


def _lengthen(graph: ir.Graph, node: ir.Node, size: int, *dims: int) -> None:
    """Lets a Reshape give another size along some dimensions."""
    shape = np.asarray(integers(node.inputs[1]), np.int64)
    shape[list(dims)] = size
    node.replace_input_with(1, new_constant(graph, f"{node.outputs[0].name}.prompted", shape))


def _pad_constants(node: ir.Node, added: int, expressions: Expressions) -> None:
    """Biases of places and masks between windows [..., T, T] say nothing of more tokens."""
    for index, value in enumerate(node.inputs):
        if value is not None and is_constant(value):
            rank = len(size_of(value) or ())
            ends = expressions.integers(*[0] * (2 * rank - 2), added, added)
            node.replace_input_with(index, expressions.node("Pad", value, ends))


def _between(first: ir.Value, last: ir.Node) -> Iterator[ir.Node]:
    """The nodes of a chain from a value to a node, the last not included."""
    node = first_user(first)
    while node is not last:
        yield node
        node = first_user(node.outputs[0])


def _product_of(layer: Layer, expressions: Expressions) -> ir.Node:
    return first_user(expressions.initializer(layer.weight))


def _output_of(layer: Layer, expressions: Expressions) -> ir.Value:
    product = _product_of(layer, expressions).outputs[0]
    return first_user(product).outputs[0] if layer.has_bias else product
