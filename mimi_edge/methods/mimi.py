"""MiMi, Mini but Mighty (arXiv 2311.03873): large adapters everywhere, of which the least important neurons go."""

from __future__ import annotations

from dataclasses import dataclass

from mimi_edge.choices import ACTIVATION_NAMES
from mimi_edge.methods.bottlenecks import bottleneck
from mimi_edge.methods.description import Description, together
from mimi_edge.methods.method import Method, setting
from mimi_edge.methods.network import Network
from mimi_edge.sites import uniform_neurons


@dataclass(frozen=True)
class MimiSettings:
    """What MiMi starts with; `train` has these as options of its own."""

    start_ratio: float = setting(1.0, "M/N, channels by neurons, to start with.", smallest=1e-6)
    activation: str = setting("gelu", "phi.", choices=ACTIVATION_NAMES)


def describe(network: Network, settings: MimiSettings) -> Description:
    """A bottleneck behind every attention and every MLP."""
    neurons = uniform_neurons(network.sites, settings.start_ratio)
    return together(bottleneck(site, neurons[site.name], settings.activation) for site in network.sites)


METHOD = Method("mimi", "MiMi", "arXiv 2311.03873", describe, MimiSettings, prunes=True)
