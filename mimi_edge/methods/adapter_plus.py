"""Adapter+ (arXiv 2406.06820): a bottleneck behind each MLP, every channel of it scaled by a number of its own."""

from __future__ import annotations

from dataclasses import dataclass

from mimi_edge.methods.bottlenecks import bottleneck
from mimi_edge.methods.description import ONES, Description, StoredTensor, together
from mimi_edge.methods.method import Method, setting
from mimi_edge.methods.network import Network
from mimi_edge.methods.weights import Stored
from mimi_edge.sites import Site


@dataclass(frozen=True)
class AdapterPlusSettings:
    """The paper's own."""

    neurons: int = setting(8, "N, neurons behind every MLP.")


def describe(network: Network, settings: AdapterPlusSettings) -> Description:
    """A bottleneck with GELU, biases and a scale [M] behind every MLP."""
    return together(_behind(block.mlp, settings.neurons) for block in network.blocks)


def _behind(site: Site, neurons: int) -> Description:
    scale = f"{site.name}.scaling"
    scaling = Description((StoredTensor(scale, (site.width,), ONES),))
    return bottleneck(site, neurons, "gelu", biases=True, scale=Stored(scale)) + scaling


METHOD = Method("adapter-plus", "Adapter+", "arXiv 2406.06820", describe, AdapterPlusSettings, size="neurons")
