"""Tokens that attention looks at beside the image's, and tokens that go through all blocks with them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from mimi_edge.errors import ArtifactError
from mimi_edge.export.edits.expressions import Expressions
from mimi_edge.export.passes.surgery import integers, is_constant, new_constant, new_node
from mimi_edge.methods.edits import Prompts, Tokens
from mimi_edge.methods.network import Network, norm_before

TO_THE_END = np.iinfo(np.int64).max


@dataclass(frozen=True)
class _Attention:
    """An attention in a graph: softmax(query @ keys + biases) @ values.

    Attributes:
        query: [..., H, N, D], scaled.
        softmax: of its shares [..., H, N, N].
        product: of shares and values.
        heads: H.
    """

    query: ir.Value
    softmax: ir.Node
    product: ir.Node
    heads: int


def insert_tokens(graph: ir.Graph, edit: Tokens, network: Network, expressions: Expressions) -> None:
    """Gives an attention more keys and values: those of tokens, which depend on weights alone.

    The products of queries and the new keys stand beside the others in front of the softmax; behind it, the new values
    are added with their shares. So no other shape in the graph changes, and windows need nothing of their own.
    """
    place, attention = edit.place, _attention(edit.place, network, expressions)
    keys, values = _keys_and_values(edit, network, expressions, attention.heads)
    count, _ = expressions.shape(edit.tokens)
    softmax, product = attention.softmax, attention.product
    near, own_values = softmax.inputs[0], product.inputs[1]
    far = new_node("MatMul", [attention.query, keys], f"{place}.far")
    seen = new_node("Concat", [near, far.outputs[0]], f"{place}.seen", axis=-1)
    graph.insert_before(softmax, [far, seen])
    softmax.replace_input_with(0, seen.outputs[0])
    axis = expressions.integers(-1)
    begin, split, end = expressions.integers(0), expressions.integers(-count), expressions.integers(TO_THE_END)
    shares = softmax.outputs[0]
    of_image = new_node("Slice", [shares, begin, split, axis], f"{place}.shares")
    of_tokens = new_node("Slice", [shares, split, end, axis], f"{place}.far_shares")
    of_image_summed = new_node("MatMul", [of_image.outputs[0], own_values], f"{place}.near_sum")
    of_tokens_summed = new_node("MatMul", [of_tokens.outputs[0], values], f"{place}.far_sum")
    both = new_node("Add", [of_image_summed.outputs[0], of_tokens_summed.outputs[0]], f"{place}.both")
    old = product.outputs[0]
    graph.insert_after(product, [of_image, of_tokens, of_image_summed, of_tokens_summed, both])
    ir.convenience.replace_all_uses_with(old, both.outputs[0])
    graph.remove(product, safe=True)


def insert_prompts(graph: ir.Graph, edit: Prompts, network: Network, expressions: Expressions) -> None:
    """Lets tokens join those of the image in front of the first block, and takes them off behind the last."""
    joined = _only_user(expressions.initializer(f"{norm_before(network.blocks[0].attention.name)}.weight")).inputs[0]
    left = _end_of(graph, network.blocks[-1].mlp.name)
    producer = None if joined is None else joined.producer()
    if joined is None or producer is None:
        raise _strange(edit.first)
    count, width = expressions.shape(edit.tokens)
    tokens = expressions.node("Reshape", expressions.value(edit.tokens), expressions.integers(1, count, width))
    uses, zero, one = tuple(joined.uses()), expressions.integers(0), expressions.integers(1)
    sizes = new_node("Shape", [joined], "prompts.sizes")
    batch = new_node("Slice", [sizes.outputs[0], zero, one, zero], "prompts.batch")
    shape = new_node("Concat", [batch.outputs[0], expressions.integers(count, width)], "prompts.shape", axis=0)
    spread = new_node("Expand", [tokens, shape.outputs[0]], "prompts.spread")
    together = new_node("Concat", [joined, spread.outputs[0]], "prompts.joined", axis=1)
    graph.insert_after(producer, [sizes, batch, shape, spread, together])
    for node, index in uses:
        node.replace_input_with(index, together.outputs[0])
    before = network.blocks[0].attention.tokens
    for node in _between(together.outputs[0], left):
        if node.op_type == "Reshape":
            _resize(graph, node, before, before + count)
    users = tuple(left.uses())
    fewer = new_node("Slice", [left, zero, expressions.integers(-count), one], "prompts.left")
    last = left.producer()
    if last is None:
        raise _strange(edit.last)
    graph.insert_after(last, fewer)
    for node, index in users:
        node.replace_input_with(index, fewer.outputs[0])


def _attention(place: str, network: Network, expressions: Expressions) -> _Attention:
    """Finds an attention by its first layer, which computes queries, keys and values."""
    layer = network.layers(place)[0]
    first = _only_user(expressions.initializer(layer.weight))
    reshaped = _first_behind([first.outputs[0]], "Reshape", place)
    shape = integers(reshaped.inputs[1])
    softmax = _first_behind([reshaped.outputs[0]], "Softmax", place)
    product = _first_behind([softmax.outputs[0]], "MatMul", place)
    query = _product_before(softmax, place).inputs[0]
    if shape is None or len(shape) < 5 or query is None:
        raise _strange(place)
    return _Attention(query, softmax, product, shape[-2])


def _keys_and_values(edit: Tokens, network: Network, expressions: Expressions, heads: int) -> tuple[ir.Value, ir.Value]:
    """Keys [H, D, P] and values [H, P, D] of tokens: normalised and projected as those of the image are."""
    layer = network.layers(edit.place)[0]
    norm = norm_before(edit.place)
    weight, bias = expressions.initializer(f"{norm}.weight"), expressions.initializer(f"{norm}.bias")
    epsilon = _only_user(weight).attributes["epsilon"].as_float()
    tokens = expressions.value(edit.tokens)
    normalised = expressions.node("LayerNormalization", tokens, weight, bias, axis=-1, epsilon=epsilon)
    transposed = expressions.node("Transpose", expressions.value_of(layer.weight), perm=[1, 0])
    projected = expressions.node("MatMul", normalised, transposed)
    if layer.has_bias:
        projected = expressions.node("Add", projected, expressions.initializer(layer.bias))
    count, width = expressions.shape(edit.tokens)

    def third(number: int, perm: list[int]) -> ir.Value:
        begin, end = expressions.integers(number * width), expressions.integers((number + 1) * width)
        part = expressions.node("Slice", projected, begin, end, expressions.integers(1))
        by_head = expressions.node("Reshape", part, expressions.integers(count, heads, width // heads))
        return expressions.node("Transpose", by_head, perm=perm)

    return third(1, [1, 2, 0]), third(2, [1, 0, 2])


def _first_behind(values: Iterable[ir.Value], op_type: str, place: str) -> ir.Node:
    """The nearest node of a type that what is computed here goes into."""
    waiting = list(values)
    for value in waiting:
        for node, _ in value.uses():
            if node.op_type == op_type:
                return node
            waiting += node.outputs
    raise _strange(place)


def _product_before(softmax: ir.Node, place: str) -> ir.Node:
    """The product whose result, after biases and masks, the softmax takes."""
    value = softmax.inputs[0]
    while value is not None and (node := value.producer()) is not None:
        if node.op_type == "MatMul":
            return node
        value = next((each for each in node.inputs if each is not None and not is_constant(each)), None)
    raise _strange(place)


def _end_of(graph: ir.Graph, site: str) -> ir.Value:
    """What a block ends with: the sum of its residual and its MLP."""
    value = next(value for node in graph for value in node.outputs if value.name == site)
    return _first_behind([value], "Add", site).outputs[0]


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


def _only_user(value: ir.Value) -> ir.Node:
    return next(iter(value.uses())).node


def _strange(place: str) -> ArtifactError:
    return ArtifactError(
        f"The graph of this backbone does not compute {place} as mimi-edge knows it, so tokens cannot be put there. "
        "Export the backbone again with the versions in constraints.txt."
    )
