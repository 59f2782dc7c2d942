"""Numbers: how many operations a description adds to a forward pass, to the operation.

2 x multiply-accumulates of matrix products and convolutions. Biases, scales and activations are not counted, as in the
backbone; what is computed of weights alone is computed once, and costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from mimi_edge.methods.description import Description
from mimi_edge.methods.edits import Branch, Edit, Hidden, Prompts, Replace, Side, Tokens
from mimi_edge.methods.network import Network
from mimi_edge.methods.weights import Constant, Frozen, Leaf, Shape, Weight, shape_of

ShapeOf = Callable[[Weight], Shape]


def flops_of(description: Description, network: Network) -> int:
    """2 x multiply-accumulates that the edits of a description add for one image."""

    def leaf(one: Leaf) -> Shape:
        if isinstance(one, Constant):
            return one.shape
        return network.parameters[one.name] if isinstance(one, Frozen) else description.shapes[one.name]

    return sum(_flops(edit, network, lambda weight: shape_of(weight, leaf)) for edit in description.edits)


def _flops(edit: Edit, network: Network, shape: ShapeOf) -> int:
    match edit:
        case Branch():
            width, neurons = shape(edit.down)
            return 4 * network.tokens[edit.place] * width * neurons
        case Replace():
            return 0
        case Tokens():
            count, width = shape(edit.tokens)
            return 4 * network.tokens[edit.place] * count * width
        case Prompts():
            return _prompted(shape(edit.tokens)[0], network)
        case Hidden():
            outputs, inputs = shape(edit.weight)
            return 2 * outputs * inputs
        case Side():
            return _side(edit, network, shape)


def _prompted(count: int, network: Network) -> int:
    """Every layer sees more tokens, and every token of a window looks at more, as do the new ones at each window."""
    total = 0
    for block in network.blocks:
        merging = network.merging_before(block)
        layers = (*network.layers(block.name), *((merging.layer,) if merging else ()))
        tokens = block.attention.tokens
        window = network.window(block.attention.name) or tokens
        more = (window + count) ** 2 - window**2
        total += 2 * count * sum(layer.inputs * layer.outputs for layer in layers)
        total += 4 * block.width * (tokens // window) * more
    return total


def _side(edit: Side, network: Network, shape: ShapeOf) -> int:
    height, width = network.input_size or (0, 0)
    total = 0
    for layer in edit.convolutions:
        outputs, *kernel = shape(layer.weight)
        height, width = height // layer.stride, width // layer.stride
        total += 2 * height * width * outputs * kernel[0] * kernel[1] * kernel[2]
    outputs, inputs = shape(edit.weight)
    return total + 2 * outputs * inputs
