"""All that a method may do to a frozen network; whoever interprets these interprets every method."""

from __future__ import annotations

from dataclasses import dataclass

from mimi_edge.methods.weights import Stored, Weight, leaves


@dataclass(frozen=True)
class Branch:
    """A bottleneck beside a sub-layer: h becomes h + scale * (phi(x @ down + down_bias) @ up + up_bias).

    Attributes:
        place: name of the sub-layer whose output is h.
        down: [M, N].
        up: [N, M].
        activation: phi: `gelu` (exact), `relu`, or `none`.
        scale: a number, or a weight [M] that scales each channel.
        down_bias: [N], if there is one.
        up_bias: [M], if there is one.
        parallel: whether x is the sub-layer's input instead of its output h.
    """

    place: str
    down: Weight
    up: Weight
    activation: str
    scale: float | Weight = 1.0
    down_bias: Weight | None = None
    up_bias: Weight | None = None
    parallel: bool = False

    @property
    def weights(self) -> tuple[Weight, ...]:
        """All expressions in it."""
        scale = None if isinstance(self.scale, float | int) else self.scale
        return tuple(one for one in (self.down, self.up, scale, self.down_bias, self.up_bias) if one is not None)


@dataclass(frozen=True)
class Replace:
    """A parameter of the backbone becomes something else of the same shape; costs no operation."""

    parameter: str
    becomes: Weight

    @property
    def weights(self) -> tuple[Weight, ...]:
        """All expressions in it."""
        return (self.becomes,)


@dataclass(frozen=True)
class Tokens:
    """Tokens that a block's attention sees beside the image's, before its first normalisation; they end there.

    Where attention looks at windows, each window sees them.

    Attributes:
        place: name of the attention sub-layer.
        tokens: [P, M].
    """

    place: str
    tokens: Weight

    @property
    def weights(self) -> tuple[Weight, ...]:
        """All expressions in it."""
        return (self.tokens,)


@dataclass(frozen=True)
class Prompts:
    """Tokens that join the image's before the first block, and leave after the last.

    Where attention looks at windows, each window sees them and they see each window; what they become there is averaged
    over the windows. Where four tokens of the image are merged into one, each of them is with three like itself.

    Attributes:
        first: name of the first block.
        last: name of the last block.
        tokens: [P, M].
    """

    first: str
    last: str
    tokens: Weight

    @property
    def weights(self) -> tuple[Weight, ...]:
        """All expressions in it."""
        return (self.tokens,)


@dataclass(frozen=True)
class Hidden:
    """A layer between the backbone's features and the classifier: relu(features @ weight.T + bias)."""

    weight: Weight
    bias: Weight

    @property
    def weights(self) -> tuple[Weight, ...]:
        """All expressions in it."""
        return (self.weight, self.bias)


@dataclass(frozen=True)
class Convolution:
    """relu(conv(images, weight) + bias), with a stride as large as the kernel."""

    weight: Weight
    bias: Weight
    stride: int


@dataclass(frozen=True)
class Side:
    """A small network beside the backbone: features become a * features + (1 - a) * side(images).

    Attributes:
        convolutions: one after another, then the mean over what is left of the image.
        weight: [F, channels] of the projection to the backbone's features.
        bias: [F].
        blend: [1]; a is its sigmoid.
    """

    convolutions: tuple[Convolution, ...]
    weight: Weight
    bias: Weight
    blend: Weight

    @property
    def weights(self) -> tuple[Weight, ...]:
        """All expressions in it."""
        layers = [one for layer in self.convolutions for one in (layer.weight, layer.bias)]
        return (*layers, self.weight, self.bias, self.blend)


Edit = Branch | Replace | Tokens | Prompts | Hidden | Side


def stored_names(edit: Edit) -> frozenset[str]:
    """Names of the task's tensors in it."""
    return frozenset(leaf.name for weight in edit.weights for leaf in leaves(weight) if isinstance(leaf, Stored))
