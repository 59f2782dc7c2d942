"""LoRA (arXiv 2106.09685): queries and values get a product of two thin matrices on top of their weights."""

from __future__ import annotations

from dataclasses import dataclass

from mimi_edge.methods.description import ZEROS, Axis, Description, Normal, StoredTensor, together
from mimi_edge.methods.edits import Replace
from mimi_edge.methods.method import Method, setting
from mimi_edge.methods.network import Layer, Network
from mimi_edge.methods.weights import Frozen, Stored, add, concat, dot, piece, scaled

FIRST_STD = 0.02
QUERIES_AND_VALUES = (0, 2)
"""Thirds of the weight of a layer that computes queries, keys and values."""


@dataclass(frozen=True)
class LoraSettings:
    """Rank and scale."""

    rank: int = setting(8, "r, columns of the thin matrices.")
    alpha: float = setting(0.0, "What the product is multiplied by is alpha / r; 0 stands for r.", smallest=0)


def describe(network: Network, settings: LoraSettings) -> Description:
    """Two products in the first layer of every attention."""
    return together(
        _layer(layer, settings) for block in network.blocks for layer in network.layers(block.attention.name)[:1]
    )


def _layer(layer: Layer, settings: LoraSettings) -> Description:
    rank, scale = settings.rank, (settings.alpha or settings.rank) / settings.rank
    thirds, height = [], layer.outputs // 3
    tensors: list[StoredTensor] = []
    along: dict[str, int] = {}
    for third in range(3):
        rows = piece(Frozen(layer.weight), third, height)
        if third not in QUERIES_AND_VALUES:
            thirds.append(rows)
            continue
        name = f"{layer.name}.{'qkv'[third]}"
        into, out_of = f"{name}.lora_a", f"{name}.lora_b"
        tensors += [
            StoredTensor(into, (rank, layer.inputs), Normal(FIRST_STD)),
            StoredTensor(out_of, (height, rank), ZEROS),
        ]
        along |= {into: 0, out_of: 1}
        thirds.append(add(rows, scaled(dot(Stored(out_of), Stored(into)), scale)))
    axis = Axis(layer.name, rank, along)
    return Description(tuple(tensors), (axis,), (Replace(layer.weight, concat(*thirds)),))


METHOD = Method("lora", "LoRA", "arXiv 2106.09685", describe, LoraSettings, size="rank")
