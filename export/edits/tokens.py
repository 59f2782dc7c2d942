"""Tokens that attention looks at beside the image's."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from mimi_edge.export.edits.attentions import TO_THE_END, first_behind, first_user, product_before, strange
from mimi_edge.export.edits.expressions import Expressions
from mimi_edge.export.passes.surgery import integers, new_node
from mimi_edge.methods.edits import Tokens
from mimi_edge.methods.network import Network, norm_before

FAR, FAR_SUM = "far", "far_sum"
"""Behind an attention's, the names of its products with what becomes of the tokens: scores, and the sum of values."""


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
    far = new_node("MatMul", [attention.query, keys], f"{place}.{FAR}")
    seen = new_node("Concat", [near, far.outputs[0]], f"{place}.seen", axis=-1)
    graph.insert_before(softmax, [far, seen])
    softmax.replace_input_with(0, seen.outputs[0])
    axis = expressions.integers(-1)
    begin, split, end = expressions.integers(0), expressions.integers(-count), expressions.integers(TO_THE_END)
    shares = softmax.outputs[0]
    of_image = new_node("Slice", [shares, begin, split, axis], f"{place}.shares")
    of_tokens = new_node("Slice", [shares, split, end, axis], f"{place}.far_shares")
    of_image_summed = new_node("MatMul", [of_image.outputs[0], own_values], f"{place}.near_sum")
    of_tokens_summed = new_node("MatMul", [of_tokens.outputs[0], values], f"{place}.{FAR_SUM}")
    both = new_node("Add", [of_image_summed.outputs[0], of_tokens_summed.outputs[0]], f"{place}.both")
    old = product.outputs[0]
    graph.insert_after(product, [of_image, of_tokens, of_image_summed, of_tokens_summed, both])
    ir.convenience.replace_all_uses_with(old, both.outputs[0])
    graph.remove(product, safe=True)


def _attention(place: str, network: Network, expressions: Expressions) -> _Attention:
    """Finds an attention by its first layer, which computes queries, keys and values."""
    layer = network.layers(place)[0]
    first = first_user(expressions.initializer(layer.weight))
    reshaped = first_behind([first.outputs[0]], "Reshape", place)
    shape = integers(reshaped.inputs[1])
    softmax = first_behind([reshaped.outputs[0]], "Softmax", place)
    product = first_behind([softmax.outputs[0]], "MatMul", place)
    query = product_before(softmax, place).inputs[0]
    if shape is None or len(shape) < 5 or query is None:
        raise strange(place)
    return _Attention(query, softmax, product, shape[-2])


def _keys_and_values(edit: Tokens, network: Network, expressions: Expressions, heads: int) -> tuple[ir.Value, ir.Value]:
    """Keys [H, D, P] and values [H, P, D] of tokens: normalised and projected as those of the image are."""
    layer = network.layers(edit.place)[0]
    norm = norm_before(edit.place)
    weight, bias = expressions.initializer(f"{norm}.weight"), expressions.initializer(f"{norm}.bias")
    epsilon = first_user(weight).attributes["epsilon"].as_float()
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
