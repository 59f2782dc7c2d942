"""What we know about each family of backbones, a row each: which modules are blocks, and which their sub-layers.

A model's forward pass is timm's own and is never written down here. How one is run from the middle, which is what lets
a frozen prefix be computed once, is worked out by watching it (`mimi_edge.training.resumed_pass`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from mimi_edge.errors import ConfigError

TimmModel = Any
"""An nn.Module of timm, whose attributes no type says anything about."""


@dataclass(frozen=True)
class Family:
    """Models of one design.

    Attributes:
        name: as its authors call it.
        models: their classes, `module.Class` in `timm.models`, or elsewhere.
        blocks: names of the modules that have the sub-layers, a star for each number.
        sub_layers: names inside a block of an attention and of the MLP behind it, in turns, in the order they run.
        channels_first: whether what has four dimensions is [B, M, H, W], not [B, H, W, M].
        links: names, as of `blocks`, of the modules at which a pass can start; empty where the blocks are that.
        computed: parts of the names of parameters from which the network computes others before it uses them, so that
            an exported graph has only what comes out.
    """

    name: str
    models: tuple[str, ...]
    blocks: tuple[str, ...] = ("blocks.*",)
    sub_layers: tuple[str, ...] = ("attn", "mlp")
    channels_first: bool = False
    links: tuple[str, ...] = ()
    computed: tuple[str, ...] = ()

    def tokens_of(self, value: Any) -> Tensor:
        """What goes into a sub-layer or comes out of it as tokens [..., M]."""
        tensor: Tensor = value[0] if isinstance(value, tuple) else value
        return tensor.movedim(1, -1) if self._is_turned(tensor) else tensor

    def with_tokens(self, value: Any, tokens: Tensor) -> Any:
        """The same as `value`, with other tokens [..., M] in it."""
        if isinstance(value, tuple):
            return (self.with_tokens(value[0], tokens), *value[1:])
        return tokens.movedim(-1, 1) if self._is_turned(value) else tokens

    def _is_turned(self, tensor: Tensor) -> bool:
        return self.channels_first and tensor.ndim == 4


FAMILIES = (
    Family(
        "ViT",
        ("vision_transformer.VisionTransformer", "deit.VisionTransformerDistilled"),
    ),
    Family("BEiT", ("beit.Beit",), computed=("relative_position_bias_table",)),
    Family("EVA", ("eva.Eva",)),
    Family(
        "ViT with relative positions", ("vision_transformer_relpos.VisionTransformerRelPos",), computed=("rel_pos",)
    ),
    Family("SAM", ("vision_transformer_sam.VisionTransformerSAM",), computed=("rel_pos",)),
    Family("NaFlexViT", ("naflexvit.NaFlexVit",), computed=("pos_embed",)),
    Family("CaiT", ("cait.Cait",), ("blocks.*", "blocks_token_only.*"), links=("blocks.*",)),
    Family("XCiT", ("xcit.Xcit",), ("blocks.*", "cls_attn_blocks.*"), computed=("pos_embed",)),
    Family("VOLO", ("volo.VOLO",), ("network.*.*", "post_network.*")),
    Family("Twins", ("twins.Twins",), ("blocks.*.*",)),
    Family("PVT v2", ("pvt_v2.PyramidVisionTransformerV2",), ("stages.*.blocks.*",)),
    Family("ConViT", ("convit.ConVit",), computed=("gating_param",)),
    Family(
        "DaViT",
        ("davit.DaVit",),
        ("stages.*.blocks.*.*", "stages.*.blocks.*.spatial_block", "stages.*.blocks.*.channel_block"),
    ),
    Family("GC ViT", ("gcvit.GlobalContextVit",), ("stages.*.blocks.*",), computed=("global_block",)),
    Family("Hiera", ("hiera.Hiera",)),
    Family("HieraDet", ("hieradet_sam2.HieraDet",), computed=("pos_embed",)),
    Family("LeViT", ("levit.Levit", "levit.LevitDistilled"), ("stages.*.blocks.*",), computed=("attention_biases",)),
    Family(
        "MaxViT",
        ("maxxvit.MaxxVit",),
        ("stages.*.blocks.*.attn_block", "stages.*.blocks.*.attn_grid"),
        computed=("rel_pos",),
    ),
    Family("CoAtNet", ("maxxvit.MaxxVit",), ("stages.*.blocks.*",), channels_first=True),
    Family("MViTv2", ("mvitv2.MultiScaleVit",), ("stages.*.blocks.*",), computed=("rel_pos",)),
    Family("NesT", ("nest.Nest",), ("levels.*.transformer_encoder.*",)),
    Family("PiT", ("pit.PoolingVisionTransformer",), ("transformers.*.blocks.*",)),
    Family("TNT", ("tnt.TNT",), sub_layers=("attn_in", "mlp_in", "attn_out", "mlp")),
    Family("TinyViT", ("tiny_vit.TinyVit",), ("stages.*.blocks.*",), computed=("attention_biases",)),
    Family(
        "EfficientFormer",
        ("efficientformer.EfficientFormer", "efficientformer_v2.EfficientFormerV2"),
        ("stages.*.blocks.*",),
        ("token_mixer", "mlp"),
        channels_first=True,
        computed=("attention_biases", "gamma"),
    ),
    Family(
        "MobileViT", ("byobnet.ByobNet",), ("stages.*.*.transformer.*",), channels_first=True, links=("stages.*.*",)
    ),
    Family("EdgeNeXt", ("edgenext.EdgeNeXt",), ("stages.*.blocks.*",), ("xca", "mlp")),
    Family(
        "FastViT",
        ("fastvit.FastVit",),
        ("stages.*.blocks.*",),
        ("token_mixer", "mlp"),
        channels_first=True,
        computed=("layer_scale", "gamma"),
    ),
    Family("CrossViT", ("crossvit.CrossVit",), ("blocks.*.blocks.*.*",)),
    Family(
        "MetaFormer",
        ("metaformer.MetaFormer",),
        ("stages.*.blocks.*",),
        ("token_mixer", "mlp"),
        channels_first=True,
        computed=("res_scale", "layer_scale"),
    ),
    Family("Visformer", ("visformer.Visformer",), ("stage2.*", "stage3.*"), channels_first=True),
    Family("CvT", ("mimi_edge.training.cvt.Cvt",), ("cvt.encoder.stages.*.layers.*",), ("attention", "output.dense")),
    Family("Swin", ("swin_transformer.SwinTransformer",), ("layers.*.blocks.*",)),
    Family(
        "Swin V2",
        ("swin_transformer_v2.SwinTransformerV2",),
        ("layers.*.blocks.*",),
        computed=("cpb_mlp",),
    ),
    Family(
        "Swin V2 CR",
        ("swin_transformer_v2_cr.SwinTransformerV2Cr",),
        ("stages.*.blocks.*",),
        computed=("meta_mlp",),
    ),
)


def family_of(module: TimmModel) -> Family:
    """The family of a timm model.

    Raises:
        ConfigError: it is of none, or its blocks have no attention and MLP of their own.
    """
    kind = f"{type(module).__module__.removeprefix('timm.models.')}.{type(module).__name__}"
    of_class = [family for family in FAMILIES if kind in family.models]
    family = next((family for family in of_class if block_names(module, family)), None)
    if family is not None:
        return family
    if of_class:
        raise ConfigError(
            f"This {type(module).__name__} has no blocks with an attention and an MLP of their own "
            f"({' and '.join(of_class[0].sub_layers)}), behind which adapters could stand. Choose another backbone: "
            "mimi-edge backbones lists those that are supported."
        )
    raise ConfigError(
        f"{type(module).__name__} is not a supported family of backbones. Expected one of "
        f"{', '.join(family.name for family in FAMILIES)}, such as vit_small_patch16_224 or "
        "swin_tiny_patch4_window7_224."
    )


def block_names(module: nn.Module, family: Family) -> tuple[str, ...]:
    """Names of the modules that have all sub-layers of a block."""
    inside = set(family.sub_layers)
    return tuple(
        name for name in names_like(module, family.blocks) if inside <= set(_parts(module.get_submodule(name)))
    )


def _parts(block: nn.Module) -> Iterator[str]:
    """Names of all modules inside one that do something."""
    yield from (name for name, part in block.named_modules() if not isinstance(part, nn.Identity))


def sub_layer_names(module: nn.Module, family: Family) -> tuple[str, ...]:
    """Names of the modules after which an adapter can stand, block by block."""
    return tuple(f"{block}.{name}" for block in block_names(module, family) for name in family.sub_layers)


def names_like(module: nn.Module, patterns: tuple[str, ...]) -> list[str]:
    """Names of the modules inside one that are written like one of some patterns, a star for each number."""
    written = re.compile("|".join(re.escape(pattern).replace(r"\*", r"\d+") for pattern in patterns))
    return [name for name, _ in module.named_modules() if written.fullmatch(name)]
