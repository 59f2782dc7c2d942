"""What a method may know of a frozen network: its sites, its parameters, and nothing of torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from mimi_edge.errors import ConfigError
from mimi_edge.methods.weights import Shape
from mimi_edge.sites import Site

ATTENTION = "attn"
MLP = "mlp"


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
class Network:
    """A frozen network as methods see it.

    Attributes:
        sites: the outputs of its attention and MLP sub-layers, in the order in which they run.
        features: F, width of its pooled output.
        parameters: shapes by name; only those that a task may replace.
        input_size: S, side of the images in pixels.
        takes_tokens: names of attention sub-layers that can be given more tokens to look at.
        takes_prompts: whether tokens can join the image's for all blocks.
    """

    sites: tuple[Site, ...]
    features: int
    parameters: Mapping[str, Shape] = field(default_factory=dict)
    input_size: int = 0
    takes_tokens: tuple[str, ...] = ()
    takes_prompts: bool = False

    @cached_property
    def tokens(self) -> dict[str, int]:
        """How many tokens pass each site for one image."""
        return {site.name: site.tokens for site in self.sites}

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """Its transformer blocks, in the order in which they run."""
        sites: dict[str, dict[str, Site]] = {}
        for site in self.sites:
            block, _, part = site.name.rpartition(".")
            sites.setdefault(block, {})[part] = site
        return tuple(
            Block(name, _stage(name), parts[ATTENTION], parts[MLP])
            for name, parts in sites.items()
            if parts.keys() == {ATTENTION, MLP}
        )

    def stages(self, count: int) -> dict[str, int]:
        """The stage of each site, by name: that of its block, numbered from 0.

        Where a network has but one stage, its blocks are cut into so many parts, as equal as they can be.

        Raises:
            ConfigError: it has another number of stages, or fewer blocks than that.
        """
        blocks = list(dict.fromkeys(_block(site) for site in self.sites))
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
        return {site.name: stages[_block(site)] for site in self.sites}

    def layers(self, inside: str) -> tuple[Layer, ...]:
        """Linear layers of a module, in their order: those with a weight [outputs, inputs] that can be replaced."""
        named = self.parameters_of((inside,))
        matrices = [(name.removesuffix(".weight"), shape) for name, shape in named.items() if name.endswith(".weight")]
        return tuple(
            Layer(name, shape[1], shape[0], f"{name}.bias" in named) for name, shape in matrices if len(shape) == 2
        )

    def parameters_of(self, modules: Iterable[str]) -> dict[str, Shape]:
        """Parameters inside modules, by name, in their order."""
        inside = tuple(f"{module}." for module in modules)
        return {name: shape for name, shape in self.parameters.items() if name.startswith(inside)}


def _block(site: Site) -> str:
    return site.name.rpartition(".")[0]


def norm_before(attention: str) -> str:
    """The module that normalises tokens in front of an attention sub-layer."""
    return f"{attention.rpartition('.')[0]}.norm1"


def _stage(block: str) -> int:
    """`layers.2.blocks.1` is in stage 2, `blocks.7` in the only one."""
    parts = block.split(".")
    return int(parts[1]) if len(parts) > 2 else 0
