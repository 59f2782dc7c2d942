"""What we know about each family of backbones: which modules are sub-layers, and in which order everything runs.

A family takes a timm model apart into a chain of links. Running the links one after another is the model's forward
pass; starting in the middle is what lets a frozen prefix be computed once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from timm.models.deit import VisionTransformerDistilled
from timm.models.swin_transformer import SwinTransformer
from timm.models.swin_transformer_v2 import SwinTransformerV2
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor

from mimi_edge.errors import ConfigError

SUB_LAYERS = ("attn", "mlp")

TAIL_MODULES = ("norm", "fc_norm", "head")
"""Beginnings of the names of modules behind the last block."""

TimmModel = Any
"""An nn.Module of timm, whose attributes no type says anything about."""


@dataclass(frozen=True)
class Link:
    """One step of a backbone's forward pass.

    Attributes:
        name: path of the module in the backbone, `stem` or `tail`.
        run: takes and gives tokens; the first link takes images [B, 3, S, S], the last gives features [B, F].
        is_block: whether it is a transformer block, with an attention and an MLP sub-layer.
    """

    name: str
    run: Callable[[Tensor], Tensor]
    is_block: bool = False


def chain(backbone: TimmModel) -> tuple[Link, ...]:
    """The forward pass of a backbone, link by link.

    Raises:
        ConfigError: the backbone is of a family that is not supported.
    """
    if type(backbone) in (VisionTransformer, VisionTransformerDistilled) and all(
        isinstance(block, Block) for block in backbone.blocks
    ):
        return _plain_chain(backbone)
    if type(backbone) in (SwinTransformer, SwinTransformerV2):
        return _swin_chain(backbone)
    raise ConfigError(
        f"{type(backbone).__name__} is not a supported family of backbones. Expected a plain ViT or DeiT, Swin or "
        "Swin V2, such as vit_small_patch16_224, deit_tiny_patch16_224, swin_tiny_patch4_window7_224 or "
        "swinv2_tiny_window8_256."
    )


def link_of(links: tuple[Link, ...], name: str) -> int:
    """The number of the link that a module or a parameter of a backbone belongs to."""
    for index, link in enumerate(links):
        if name.startswith(f"{link.name}."):
            return index
    return len(links) - 1 if name.split(".", maxsplit=1)[0] in TAIL_MODULES else 0


def sub_layer_names(backbone: TimmModel) -> tuple[str, ...]:
    """Names of the modules after which an adapter can stand, in the order in which they run."""
    blocks = [link.name for link in chain(backbone) if link.is_block]
    return tuple(f"{block}.{sub_layer}" for block in blocks for sub_layer in SUB_LAYERS)


def _plain_chain(backbone: TimmModel) -> tuple[Link, ...]:
    def stem(images: Tensor) -> Tensor:
        patches = backbone._pos_embed(backbone.patch_embed(images))
        tokens: Tensor = backbone.norm_pre(backbone.patch_drop(patches))
        return tokens

    def tail(tokens: Tensor) -> Tensor:
        features: Tensor = backbone.forward_head(backbone.norm(tokens))
        return features

    blocks = (Link(f"blocks.{index}", block, is_block=True) for index, block in enumerate(backbone.blocks))
    return (Link("stem", stem), *blocks, Link("tail", tail))


def _swin_chain(backbone: TimmModel) -> tuple[Link, ...]:
    def tail(tokens: Tensor) -> Tensor:
        features: Tensor = backbone.forward_head(backbone.norm(tokens))
        return features

    links = [Link("stem", backbone.patch_embed)]
    for stage, layer in enumerate(backbone.layers):
        links.append(Link(f"layers.{stage}.downsample", layer.downsample))
        links += [
            Link(f"layers.{stage}.blocks.{index}", block, is_block=True) for index, block in enumerate(layer.blocks)
        ]
    return (*links, Link("tail", tail))
