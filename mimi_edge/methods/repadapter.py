"""RepAdapter (arXiv 2302.08106): a linear bottleneck in front of attention and MLP, which melts into their weights.

x becomes x + scale * (up(down(x))), up in groups. The layer behind computes W x + b; with D = down [N, M] and U = up
[M, N] its weight becomes W + scale * W U D, and its bias b + scale * W (U d + u) with their biases d and u.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

from mimi_edge.errors import ConfigError
from mimi_edge.methods.description import ZEROS, Description, Normal, StoredTensor, together
from mimi_edge.methods.edits import Replace
from mimi_edge.methods.method import Method, setting
from mimi_edge.methods.network import Layer, Network
from mimi_edge.methods.weights import Constant, Frozen, Stored, Weight, add, dot, kron, piece, reshape, scaled

FIRST_STD = 0.02


@dataclass(frozen=True)
class RepAdapterSettings:
    """Size, groups and scale."""

    neurons: int = setting(8, "N, neurons in front of every attention and MLP, a multiple of --groups.")
    groups: int = setting(2, "Groups of the second matrix; divides the channels.")
    scale: float = setting(1.0, "What the branch is multiplied by.", smallest=1e-9)


def describe(network: Network, settings: RepAdapterSettings) -> Description:
    """A bottleneck in front of every attention and every MLP."""
    layers = [layer for site in network.sites for layer in network.layers(site.name)[:1]]
    groups = settings.groups
    if settings.neurons % groups or any(layer.inputs % groups for layer in layers):
        raise ConfigError(
            f"--groups {groups} must divide --neurons {settings.neurons} and the channels of every layer."
        )
    return together(_in_front(layer, settings) for layer in layers)


def _in_front(layer: Layer, settings: RepAdapterSettings) -> Description:
    width, neurons, groups = layer.inputs, settings.neurons, settings.groups
    down, up = f"{layer.name}.rep_down", f"{layer.name}.rep_up"
    into_bias, out_bias = f"{down}.bias", f"{up}.bias"
    spread = _diagonal(up, width // groups, groups)
    through = dot(Frozen(layer.weight), spread)
    weight = add(Frozen(layer.weight), scaled(dot(through, Stored(down)), settings.scale))
    # A group's block [M / groups, N / groups] lies below the one before.
    tensors = [
        StoredTensor(down, (neurons, width), Normal(FIRST_STD)),
        StoredTensor(up, (width, neurons // groups), ZEROS),
    ]
    edits = [Replace(layer.weight, weight)]
    if layer.has_bias:
        tensors += [StoredTensor(into_bias, (neurons,), ZEROS), StoredTensor(out_bias, (width,), ZEROS)]
        shift = add(
            dot(through, reshape(Stored(into_bias), neurons, 1)),
            dot(Frozen(layer.weight), reshape(Stored(out_bias), width, 1)),
        )
        edits.append(
            Replace(layer.bias, add(Frozen(layer.bias), reshape(scaled(shift, settings.scale), layer.outputs)))
        )
    return Description(tuple(tensors), (), tuple(edits))


def _diagonal(name: str, rows: int, groups: int) -> Weight:
    """The matrix [M, N] with the groups' blocks on its diagonal and zeros elsewhere."""

    def at(group: int) -> Weight:
        corner = tuple(float(i == j == group) for i in range(groups) for j in range(groups))
        return kron(Constant(corner, (groups, groups)), piece(Stored(name), group, rows))

    return reduce(add, map(at, range(groups)))


METHOD = Method(
    "repadapter",
    "RepAdapter",
    "arXiv 2302.08106",
    describe,
    RepAdapterSettings,
    size="neurons",
    step=lambda it: int(it.groups),
)
