"""A classifier of several layers on the frozen features (MLP-k of arXiv 2203.12119)."""

from __future__ import annotations

from dataclasses import dataclass

from mimi_edge.methods.description import ZEROS, Description, StoredTensor, Uniform, together
from mimi_edge.methods.edits import Hidden
from mimi_edge.methods.method import Method, setting
from mimi_edge.methods.network import Network
from mimi_edge.methods.weights import Stored


@dataclass(frozen=True)
class MlpHeadSettings:
    """How deep."""

    layers: int = setting(2, "k, layers of the head, the classifier among them.", smallest=2)


def describe(network: Network, settings: MlpHeadSettings) -> Description:
    """Layers as wide as the features, with ReLU, in front of the classifier."""
    return together(_layer(number, network.features) for number in range(settings.layers - 1))


def _layer(number: int, features: int) -> Description:
    weight, bias = f"head.hidden.{number}.weight", f"head.hidden.{number}.bias"
    return Description(
        # He's bound for layers before a ReLU.
        (
            StoredTensor(weight, (features, features), Uniform((6 / features) ** 0.5)),
            StoredTensor(bias, (features,), ZEROS),
        ),
        (),
        (Hidden(Stored(weight), Stored(bias)),),
    )


METHOD = Method("mlp-head", "MLP head", "arXiv 2203.12119", describe, MlpHeadSettings)
