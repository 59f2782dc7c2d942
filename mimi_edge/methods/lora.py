"""LoRA (arXiv 2106.09685): queries and values get a product of two thin matrices on top of their weights."""

from __future__ import annotations

from dataclasses import dataclass

from mimi_edge.methods.description import ZEROS, Axis, Description, Normal, StoredTensor, together
from mimi_edge.methods.edits import Replace
from mimi_edge.methods.method import Method, setting
from mimi_edge.methods.network import Layer, Network, Rows
from mimi_edge.methods.weights import Frozen, Stored, Weight, add, concat, dot, part, scaled

FIRST_STD = 0.02


@dataclass(frozen=True)
class LoraSettings:
    """Rank and scale."""

    rank: int = setting(8, "r, columns of the thin matrices.")
    alpha: float = setting(0.0, "What the product is multiplied by is alpha / r; 0 stands for r.", smallest=0)


def describe(network: Network, settings: LoraSettings) -> Description:
    """Two products in every attention."""
    parts: dict[Layer, list[Rows]] = {}
    for block in network.blocks:
        for rows in network.queries_and_values(block.attention.name):
            parts.setdefault(rows.layer, []).append(rows)
    return together(_layer(layer, rows, settings) for layer, rows in parts.items())


def _layer(layer: Layer, changed: list[Rows], settings: LoraSettings) -> Description:
    rank, scale = settings.rank, (settings.alpha or settings.rank) / settings.rank
    tensors: list[StoredTensor] = []
    along: dict[str, int] = {}
    parts: list[Weight] = []
    done = 0
    for rows in changed:
        if done < rows.first:
            parts.append(part(Frozen(layer.weight), done, rows.first))
        name = f"{layer.name}.{rows.of}"
        into, out_of = f"{name}.lora_a", f"{name}.lora_b"
        tensors += [
            StoredTensor(into, (rank, layer.inputs), Normal(FIRST_STD)),
            StoredTensor(out_of, (rows.end - rows.first, rank), ZEROS),
        ]
        along |= {into: 0, out_of: 1}
        frozen = part(Frozen(layer.weight), rows.first, rows.end)
        parts.append(add(frozen, scaled(dot(Stored(out_of), Stored(into)), scale)))
        done = rows.end
    if done < layer.outputs:
        parts.append(part(Frozen(layer.weight), done, layer.outputs))
    axis = Axis(layer.name, rank, along)
    return Description(tuple(tensors), (axis,), (Replace(layer.weight, concat(*parts)),))


METHOD = Method("lora", "LoRA", "arXiv 2106.09685", describe, LoraSettings, size="rank")
