"""FacT (arXiv 2212.03145): what all layers of one width learn is one tensor, stored as its factors.

Every layer falls into M x M pieces: three in queries, keys and values, one behind attention, four in each layer of an
MLP. Piece j changes by scale * U S_j V.T, where U and V are shared. FacT-TT stores every S_j; in FacT-TK each is a mix
of r shared ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mimi_edge.methods.description import ZEROS, Description, Normal, StoredTensor, together
from mimi_edge.methods.edits import Replace
from mimi_edge.methods.method import Method, setting
from mimi_edge.methods.network import Block, Layer, Network
from mimi_edge.methods.weights import (
    Frozen,
    Operation,
    Stored,
    Weight,
    add,
    concat,
    dot,
    piece,
    reshape,
    scaled,
    transpose,
)

FIRST_STD = 0.1


@dataclass(frozen=True)
class FactSettings:
    """Rank and scale."""

    rank: int = setting(16, "r, columns of the shared factors.")
    scale: float = setting(1.0, "What the change of every weight is multiplied by.", smallest=1e-9)


Core = Callable[[Layer, int], tuple[StoredTensor, list[Weight]]]
"""What a layer of so many pieces stores, and the S_j [r, r] of its pieces."""


def describe_tt(network: Network, settings: FactSettings) -> Description:
    """A change in every layer of every block."""
    rank = settings.rank

    def core(layer: Layer, pieces: int) -> tuple[StoredTensor, list[Weight]]:
        name = f"{layer.name}.core"
        stored = StoredTensor(name, (pieces * rank, rank), Normal(FIRST_STD))
        return stored, [piece(Stored(name), j, rank) for j in range(pieces)]

    return together(_shared(width, settings) + _changes(network, width, settings, core) for width in _widths(network))


def describe_tk(network: Network, settings: FactSettings) -> Description:
    """A change in every layer of every block, mixed from shared ones."""
    rank = settings.rank

    def of_width(width: int) -> Description:
        shared = f"fact.{width}.core"

        def core(layer: Layer, pieces: int) -> tuple[StoredTensor, list[Weight]]:
            name = f"{layer.name}.mix"
            stored = StoredTensor(name, (pieces, rank), Normal(FIRST_STD))
            return stored, [reshape(dot(piece(Stored(name), j, 1), Stored(shared)), rank, rank) for j in range(pieces)]

        cores = Description((StoredTensor(shared, (rank, rank * rank), Normal(FIRST_STD)),))
        return _shared(width, settings) + cores + _changes(network, width, settings, core)

    return together(map(of_width, _widths(network)))


def _widths(network: Network) -> list[int]:
    return sorted({block.width for block in network.blocks})


def _shared(width: int, settings: FactSettings) -> Description:
    shape = (width, settings.rank)
    return Description(
        (StoredTensor(_left(width), shape, ZEROS), StoredTensor(_right(width), shape, Normal(FIRST_STD)))
    )


def _left(width: int) -> str:
    return f"fact.{width}.u"


def _right(width: int) -> str:
    return f"fact.{width}.v"


def _changes(network: Network, width: int, settings: FactSettings, core: Core) -> Description:
    blocks = [block for block in network.blocks if block.width == width]
    return together(_change(layer, width, settings, core) for block in blocks for layer in _layers(network, block))


def _layers(network: Network, block: Block) -> list[Layer]:
    """Those that fall into M x M pieces, one below the other or side by side."""
    return [
        layer
        for layer in network.layers(block.name)
        if block.width in (layer.inputs, layer.outputs) and not (layer.inputs * layer.outputs) % block.width**2
    ]


def _change(layer: Layer, width: int, settings: FactSettings, core: Core) -> Description:
    stored, cores = core(layer, layer.inputs * layer.outputs // width**2)
    pieces = [dot(dot(Stored(_left(width)), one), transpose(Stored(_right(width)))) for one in cores]
    change: Operation = concat(*(pieces if layer.inputs == width else map(transpose, pieces)))
    if layer.inputs != width:
        change = transpose(change)
    return Description(
        (stored,), (), (Replace(layer.weight, add(Frozen(layer.weight), scaled(change, settings.scale))),)
    )


TT = Method("fact-tt", "FacT-TT", "arXiv 2212.03145", describe_tt, FactSettings, size="rank")
TK = Method("fact-tk", "FacT-TK", "arXiv 2212.03145", describe_tk, FactSettings, size="rank")
