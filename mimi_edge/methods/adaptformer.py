"""AdaptFormer (arXiv 2205.13535): a bottleneck beside each MLP that reads what the MLP reads, scaled down."""

from __future__ import annotations

from dataclasses import dataclass

from mimi_edge.errors import ConfigError
from mimi_edge.methods.bottlenecks import bottleneck
from mimi_edge.methods.description import Description, together
from mimi_edge.methods.method import Method, setting
from mimi_edge.methods.network import Network


@dataclass(frozen=True)
class AdaptFormerSettings:
    """The paper's own."""

    neurons: int = setting(64, "N, neurons beside every MLP.")
    scale: float = setting(0.1, "What the branch is multiplied by.", smallest=1e-9)


def describe(network: Network, settings: AdaptFormerSettings) -> Description:
    """A bottleneck with ReLU and biases beside every MLP."""
    if others := [block.mlp.name for block in network.blocks if not network.reads_alone(block.mlp.name)]:
        raise ConfigError(
            f"--method adaptformer reads what an MLP reads; {others[0]} does not begin with a linear layer, so what it "
            "reads cannot be found in a graph. Take --method adapters or adapter-plus."
        )
    return together(
        bottleneck(block.mlp, settings.neurons, "relu", biases=True, scale=settings.scale, parallel=True)
        for block in network.blocks
    )


METHOD = Method("adaptformer", "AdaptFormer", "arXiv 2205.13535", describe, AdaptFormerSettings, size="neurons")
