"""Adapters of one size at all sites (Houlsby et al., arXiv 1902.00751), without biases, as MiMi's tables have them."""

from __future__ import annotations

from dataclasses import dataclass

from mimi_edge.choices import ACTIVATION_NAMES
from mimi_edge.methods.bottlenecks import bottleneck
from mimi_edge.methods.description import Description, together
from mimi_edge.methods.method import Method, setting
from mimi_edge.methods.network import Network
from mimi_edge.sites import uniform_neurons


@dataclass(frozen=True)
class AdapterSettings:
    """Either N or M/N, the same at all sites."""

    neurons: int = setting(8, "N, neurons at every site.")
    ratio: float = setting(0.0, "M/N, channels by neurons, at every site; instead of --neurons.", smallest=0)
    activation: str = setting("gelu", "phi.", choices=ACTIVATION_NAMES)


def describe(network: Network, settings: AdapterSettings) -> Description:
    """A bottleneck behind every attention and every MLP."""
    in_proportion = uniform_neurons(network.sites, settings.ratio) if settings.ratio else {}
    return together(
        bottleneck(site, in_proportion.get(site.name, settings.neurons), settings.activation) for site in network.sites
    )


METHOD = Method(
    "adapters", "Adapters", "arXiv 1902.00751", describe, AdapterSettings, size="neurons", instead=("ratio",)
)
