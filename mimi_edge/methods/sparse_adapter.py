"""SparseAdapter (arXiv 2210.04284): bottlenecks of which single weights are pruned before training, and stay away.

All matrices of all sites are one long row of places. A mask says which of them hold a number, and only those numbers
are stored and trained: so places of all sites compete, and the file's size is known before anybody has chosen.
"""

from __future__ import annotations

from dataclasses import dataclass

from mimi_edge.choices import ACTIVATION_NAMES
from mimi_edge.errors import ConfigError
from mimi_edge.methods.bottlenecks import FIRST_STD
from mimi_edge.methods.description import MASK, Description, Normal, Places, StoredTensor
from mimi_edge.methods.edits import Branch
from mimi_edge.methods.method import Method, setting
from mimi_edge.methods.network import Network
from mimi_edge.methods.weights import Stored, Weight, reshape, scatter
from mimi_edge.sites import Site

VALUES = "sparse.values"
PLACES = f"sparse{MASK}"
ROW = 64
"""So many numbers share a scale where the store is int8; there are whole rows of them."""


@dataclass(frozen=True)
class SparseSettings:
    """The paper's own; larger bottlenecks of as many numbers are its Large-Sparse."""

    neurons: int = setting(64, "N, neurons at every site, before weights are pruned.")
    sparsity: float = setting(0.8, "Share of the weights that is pruned before training; below 1.", smallest=0)
    mask: str = setting("snip", "What says which weights stay.", choices=("snip", "magnitude", "random"))
    activation: str = setting("gelu", "phi.", choices=ACTIVATION_NAMES)


def describe(network: Network, settings: SparseSettings) -> Description:
    """A bottleneck behind every attention and every MLP, of matrices that are mostly zeros."""
    if settings.sparsity >= 1:
        raise ConfigError(f"--sparsity must be a share below 1, or no weight would be left; got {settings.sparsity:g}.")
    places = sum(2 * site.width * settings.neurons for site in network.sites)
    rows = _rows(max(1, round(places * (1 - settings.sparsity))))
    tensors = (
        StoredTensor(VALUES, rows, Normal(FIRST_STD)),
        StoredTensor(PLACES, (-(-places // 8),), Places(VALUES, places, settings.mask)),
    )
    return Description(tensors, (), _branches(network.sites, settings))


def _rows(kept: int) -> tuple[int, int]:
    row = min(ROW, kept)
    return kept // row, row


def _branches(sites: tuple[Site, ...], settings: SparseSettings) -> tuple[Branch, ...]:
    branches, begin, neurons = [], 0, settings.neurons
    for site in sites:
        middle, end = begin + site.width * neurons, begin + 2 * site.width * neurons
        down = reshape(_numbers(begin, middle), site.width, neurons)
        up = reshape(_numbers(middle, end), neurons, site.width)
        branches.append(Branch(site.name, down, up, settings.activation))
        begin = end
    return tuple(branches)


def _numbers(begin: int, end: int) -> Weight:
    return scatter(Stored(VALUES), Stored(PLACES), begin, end)


METHOD = Method("sparse-adapter", "SparseAdapter", "arXiv 2210.04284", describe, SparseSettings, size="neurons")
