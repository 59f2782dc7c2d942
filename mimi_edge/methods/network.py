"""What a method may know of a frozen network: its sites, its parameters, and nothing of torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from mimi_edge.errors import ConfigError
from mimi_edge.images.image_size import ImageSize
from mimi_edge.methods.weights import Shape
from mimi_edge.sites import Site

TABLE = "relative_position_bias_table"
"""Ending of the names of tables of relative position biases."""


@dataclass(frozen=True)
class Block:
    """A transformer block.

    Attributes:
        name: path of its module.
        stage: number of the stage it is in; 0 where a network has only one.
        attention: the site behind its attention.
        mlp: the site behind its MLP.
    """

    name: str
    stage: int
    attention: Site
    mlp: Site

    @property
    def width(self) -> int:
        """M, channels of a token."""
        return self.attention.width


@dataclass(frozen=True)
class Layer:
    """A linear layer, y = x @ weight.T + bias."""

    name: str
    inputs: int
    outputs: int
    has_bias: bool

    @property
    def weight(self) -> str:
        """Name of its weight [outputs, inputs]."""
        return f"{self.name}.weight"

    @property
    def bias(self) -> str:
        """Name of its bias [outputs]."""
        return f"{self.name}.bias"


@dataclass(frozen=True)
class Merging:
    """Four tokens, one beside the other, become one: layer(norm([4 M])).

    Attributes:
        place: name of the module.
        norm: name of its normalisation.
        layer: behind that.
    """

    place: str
    norm: str
    layer: Layer


@dataclass(frozen=True)
class Rows:
    """Rows of a layer's weight [outputs, inputs]: `first` up to `end`, which give queries (`q`) or values (`v`)."""

    layer: Layer
    of: str
    first: int
    end: int


@dataclass(frozen=True)
class Network:
    """A frozen network as methods see it.

    Attributes:
        sites: the outputs of its attention and MLP sub-layers, in the order in which they run.
        features: F, width of its pooled output.
        parameters: shapes by name; only those that a task may replace.
        input_size: [H, W] of the images; None where nobody knows.
        takes_tokens: names of attention sub-layers that can be given more tokens to look at.
        takes_prompts: whether tokens can go through all blocks with the image's.
        by_head: names of attention sub-layers whose one layer for queries, keys and values has them head by head.
    """

    sites: tuple[Site, ...]
    features: int
    parameters: Mapping[str, Shape] = field(default_factory=dict)
    input_size: ImageSize | None = None
    takes_tokens: tuple[str, ...] = ()
    takes_prompts: bool = False
    by_head: tuple[str, ...] = ()

    @cached_property
    def tokens(self) -> dict[str, int]:
        """How many tokens pass each site for one image."""
        return {site.name: site.tokens for site in self.sites}

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """Its transformer blocks, in the order in which they run: each attention and the MLP behind it."""
        pairs = zip(self.sites[::2], self.sites[1::2], strict=False)
        return tuple(
            Block(_parent(attention), _stage(_parent(attention)), attention, mlp)
            for attention, mlp in pairs
            if mlp.name.startswith(f"{_parent(attention)}.")
        )

    def _block(self, site: Site) -> str:
        """The block that a site is in, whose MLP may be a part of a part of it."""
        mlps = {block.mlp.name: block.name for block in self.blocks}
        return mlps.get(site.name, _parent(site))

    def stages(self, count: int) -> dict[str, int]:
        """The stage of each site, by name: that of its block, numbered from 0.

        Where a network has but one stage, its blocks are cut into so many parts, as equal as they can be.

        Raises:
            ConfigError: it has another number of stages, or fewer blocks than that.
        """
        blocks = list(dict.fromkeys(self._block(site) for site in self.sites))
        own = list(dict.fromkeys(map(_stage, blocks)))
        if len(own) == 1 and count <= len(blocks):
            stages = {block: index * count // len(blocks) for index, block in enumerate(blocks)}
        elif len(own) == count:
            stages = {block: own.index(_stage(block)) for block in blocks}
        else:
            has = f"{len(own)} stages" if len(own) > 1 else f"one stage of {len(blocks)} blocks"
            raise ConfigError(
                f"--stage-shares has {count} shares, and the backbone has {has}. Give a share for each stage; where "
                "there is one stage, for each of so many equal parts of its blocks."
            )
        return {site.name: stages[self._block(site)] for site in self.sites}

    def layers(self, inside: str) -> tuple[Layer, ...]:
        """Linear layers of a module, in their order: those with a weight [outputs, inputs] that can be replaced."""
        named = self.parameters_of((inside,))
        matrices = [(name.removesuffix(".weight"), shape) for name, shape in named.items() if name.endswith(".weight")]
        return tuple(
            Layer(name, shape[1], shape[0], f"{name}.bias" in named) for name, shape in matrices if len(shape) == 2
        )

    def queries_and_values(self, attention: str) -> tuple[Rows, ...]:
        """The rows that give an attention's queries and its values, as far as it computes both.

        They are told by the layers' names, which models share: `qkv`, or `q`, `kv`, `qk`, `v`, `q_proj`,
        `projection_query`, ...

        Raises:
            ConfigError: there are no such layers, or their rows are head by head.
        """
        layers = {_short(layer.name): layer for layer in self.layers(attention)}
        behind = self.layers(attention)[-1:]
        found: list[Rows] = []
        if attention not in self.by_head:
            for name in ("qkv", "qk", "q", "kv", "v"):
                layer = layers.get(name)
                found += _queries_and_values(name, layer, behind[0].inputs) if layer else ()
        if not found:
            raise ConfigError(
                f"Queries and values of {attention} cannot be told apart in this backbone's weights: expected layers "
                "called qkv, or q, k and v. Take another --method, such as mimi or adapters."
            )
        return tuple(found)

    def reads_alone(self, place: str) -> bool:
        """Whether the first thing in a module is a linear layer of tokens, so that the module reads what that reads."""
        first = next(iter(self.parameters_of((place,))), None)
        width = next((site.width for site in self.sites if site.name == place), None)
        return any(first == layer.weight and width in (None, layer.inputs) for layer in self.layers(place)[:1])

    @property
    def looks_at_windows(self) -> bool:
        """Whether its attention looks at windows, one or several."""
        return any(self.window(block.attention.name) is not None for block in self.blocks)

    def window(self, attention: str) -> int | None:
        """T, tokens of one of the windows that an attention looks at; None where it looks at the whole image.

        Its table of relative positions [(2 W - 1)^2, heads] tells, windows being squares of side W.
        """
        table = self.parameters.get(f"{attention}.{TABLE}")
        return None if table is None else side_of_window(table) ** 2

    def merging_before(self, block: Block) -> Merging | None:
        """What makes one token of four in front of a block; None where tokens stay as they are."""
        stage, _, number = block.name.rpartition(".blocks.")
        place = f"{stage}.downsample"
        layers = self.layers(place) if stage and int(number) == 0 else ()
        return Merging(place, f"{place}.norm", layers[0]) if layers else None

    def parameters_of(self, modules: Iterable[str]) -> dict[str, Shape]:
        """Parameters inside modules, by name, in their order."""
        inside = tuple(f"{module}." for module in modules)
        return {name: shape for name, shape in self.parameters.items() if name.startswith(inside)}


def _short(layer: str) -> str:
    """`q`, `k`, `v` and the like, of a layer's name."""
    own = layer.rpartition(".")[2].removesuffix("_proj").removeprefix("projection_")
    return own[0] if own in ("query", "key", "value") else own


def _parent(site: Site) -> str:
    return site.name.rpartition(".")[0]


def norm_before(attention: str) -> str:
    """The module that normalises tokens in front of an attention sub-layer."""
    return f"{attention.rpartition('.')[0]}.norm1"


def norm_between(block: Block) -> str:
    """The module that normalises tokens in front of a block's MLP, behind its attention."""
    return f"{block.name}.norm2"


def side_of_window(table: Shape) -> int:
    """W, of the windows of a table of relative position biases [(2 W - 1)^2, heads]."""
    return (math.isqrt(table[0]) + 1) // 2


def _queries_and_values(name: str, layer: Layer, width: int) -> tuple[Rows, ...]:
    """Of a layer that gives what its name says, values as wide as what the layer behind attention reads."""
    values = Rows(layer, "v", layer.outputs - width, layer.outputs)
    if name in ("kv", "v") or (layer.outputs < 3 * width and name == "qkv"):  # whose queries come from elsewhere
        return (values,)
    queries = {"qkv": (layer.outputs - width) // 2, "qk": layer.outputs // 2, "q": layer.outputs}[name]
    return (Rows(layer, "q", 0, queries), *((values,) if name == "qkv" else ()))


def _stage(block: str) -> int:
    """`layers.2.blocks.1` is in stage 2, `blocks.7` in the only one."""
    parts = block.split(".")
    return next(int(part) for part in parts if part.isdigit()) if len(parts) > 2 else 0
