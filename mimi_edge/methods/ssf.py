"""SSF (arXiv 2210.08823): every channel behind a linear layer, a normalisation or the patches is scaled and shifted.

Scale and shift go into the weights, so that nothing is added to the network. A layer without a bias is only scaled.
"""

from __future__ import annotations

from collections.abc import Iterator

from mimi_edge.methods.description import ONES, ZEROS, Description, StoredTensor
from mimi_edge.methods.edits import Edit, Replace
from mimi_edge.methods.method import Method, NoSettings
from mimi_edge.methods.network import Network
from mimi_edge.methods.weights import Frozen, Stored, add, mul, reshape

WEIGHT = ".weight"
BIAS = ".bias"


def describe(network: Network, _: NoSettings) -> Description:
    """A scale and a shift for every weight that has channels behind it."""
    tensors: list[StoredTensor] = []
    edits: list[Edit] = []
    for tensor, edit in _changes(network):
        tensors += tensor
        edits.append(edit)
    return Description(tuple(tensors), (), tuple(edits))


def _changes(network: Network) -> Iterator[tuple[list[StoredTensor], Edit]]:
    for name, shape in network.parameters.items():
        if not name.endswith(WEIGHT):
            continue
        layer, channels = name.removesuffix(WEIGHT), shape[0]
        scale, shift, bias = f"{layer}.ssf_scale", f"{layer}.ssf_shift", layer + BIAS
        by_channel = reshape(Stored(scale), channels, *(1 for _ in shape[1:])) if len(shape) > 1 else Stored(scale)
        yield [StoredTensor(scale, (channels,), ONES)], Replace(name, mul(by_channel, Frozen(name)))
        if bias in network.parameters:
            shifted = add(mul(Stored(scale), Frozen(bias)), Stored(shift))
            yield [StoredTensor(shift, (channels,), ZEROS)], Replace(bias, shifted)


METHOD = Method("ssf", "SSF", "arXiv 2210.08823", describe)
