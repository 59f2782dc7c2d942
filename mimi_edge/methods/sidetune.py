"""Side-tuning (arXiv 1912.13503): a small network beside the frozen one, whose features are blended in."""

from __future__ import annotations

from dataclasses import dataclass

from mimi_edge.errors import ConfigError
from mimi_edge.methods.description import ZEROS, Description, StoredTensor, Uniform
from mimi_edge.methods.edits import Convolution, Side
from mimi_edge.methods.method import Method, setting
from mimi_edge.methods.network import Network
from mimi_edge.methods.weights import Stored, reshape

STRIDES = (4, 2, 2)
CHANNELS = 3
BLEND = "side.blend"


@dataclass(frozen=True)
class SideSettings:
    """How wide the side network is."""

    width: int = setting(16, "Channels behind its first convolution; each of the next two doubles them.")


def describe(network: Network, settings: SideSettings) -> Description:
    """Three convolutions, a mean and a projection; both networks count for a half in the beginning."""
    size = network.input_size
    if size is not None and any(side % 16 for side in size):
        raise ConfigError(f"--method sidetune wants images whose sides are multiples of 16, got {size}.")
    tensors, layers, inputs = [], [], CHANNELS
    for number, stride in enumerate(STRIDES):
        outputs, fan = settings.width << number, inputs * stride * stride
        weight, bias = f"side.{number}.weight", f"side.{number}.bias"
        tensors += [StoredTensor(weight, (outputs, fan), _before_relu(fan)), StoredTensor(bias, (outputs,), ZEROS)]
        layers.append(Convolution(reshape(Stored(weight), outputs, inputs, stride, stride), Stored(bias), stride))
        inputs = outputs
    weight, bias = "side.out.weight", "side.out.bias"
    tensors += [
        StoredTensor(weight, (network.features, inputs), _before_relu(inputs)),
        StoredTensor(bias, (network.features,), ZEROS),
        StoredTensor(BLEND, (1,), ZEROS),
    ]
    return Description(tuple(tensors), (), (Side(tuple(layers), Stored(weight), Stored(bias), Stored(BLEND)),))


def _before_relu(fan: int) -> Uniform:
    return Uniform((6 / fan) ** 0.5)


METHOD = Method("sidetune", "side-tuning", "arXiv 1912.13503", describe, SideSettings, size="width")
