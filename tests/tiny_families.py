"""A tiny instance of every family of backbones, with random weights that hide nothing."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import timm
import torch
from timm.models.mvitv2 import MultiScaleVitCfg
from torch import nn

from mimi_edge.training.backbones import LoadedBackbone, described
from mimi_edge.training.cvt import make_cvt

NEEDED = {"crop_pct": 1.0, "interpolation": "bicubic", "mean": (0.5,) * 3, "std": (0.5,) * 3}


@dataclass(frozen=True)
class Tiny:
    """How to make a small model.

    Attributes:
        model: timm's name of one, or `module.Class` in `timm.models` where timm's function fixes what is to be small.
        arguments: that make it small.
        side: of its images, or height and width; 0 where the arguments say it.
    """

    model: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    side: int | tuple[int, int] = 0

    def make(self) -> nn.Module:
        kind, _, name = self.model.partition(".")
        if kind == "mimi_edge":
            module = make_cvt(**self.arguments)
        elif name:
            module = getattr(importlib.import_module(f"timm.models.{kind}"), name)(num_classes=0, **self.arguments)
            module.pretrained_cfg = dict(NEEDED)
        else:
            module = timm.create_model(self.model, num_classes=0, **self.arguments)
        side = self.side or self.arguments["img_size"]
        height, width = side if isinstance(side, tuple) else (side, side)
        module.pretrained_cfg |= {"input_size": (3, height, width), "crop_pct": 1.0}
        return module


def plain(model: str, **changes: Any) -> Tiny:
    """As wide and deep as all plain ones here."""
    return Tiny(model, {"img_size": 32, "embed_dim": 32, "depth": 2, "num_heads": 2, **changes})


def stages(model: str, **arguments: Any) -> Tiny:
    """Four stages with one head or two."""
    return Tiny(model, {"img_size": 64, "depths": (1, 1, 2, 1), "num_heads": (1, 1, 2, 2), **arguments})


def with_dims(model: str, side: int = 64, **arguments: Any) -> Tiny:
    return Tiny(model, {"depths": (1, 1, 2, 1), **arguments}, side)


WIDTHS = (16, 16, 32, 32)
TINY = {
    "vit": plain("vit_tiny_patch16_224", patch_size=8),
    "dinov2": plain("vit_small_patch14_reg4_dinov2", img_size=28),
    "siglip": plain("vit_base_patch16_siglip_224"),
    "deit": plain("deit_tiny_distilled_patch16_224", patch_size=8),
    "deit3": plain("deit3_small_patch16_224", patch_size=8),
    "beit": plain("beit_base_patch16_224", patch_size=8),
    "beitv2": plain("beitv2_base_patch16_224", patch_size=8),
    "eva": plain("eva_giant_patch14_224", img_size=28),
    "eva02": plain("eva02_tiny_patch14_224", img_size=28, embed_dim=48),
    "dinov3": plain("vit_small_patch16_dinov3", embed_dim=48),
    "relpos": plain("vit_relpos_small_patch16_224", patch_size=8),
    "sam": plain("samvit_base_patch16_224", patch_size=8, global_attn_indexes=(1,), window_size=2),
    "naflex": plain("naflexvit_base_patch16_gap", patch_size=8),
    "cait": plain("cait_xxs24_224", patch_size=8),
    "xcit": plain("xcit_nano_12_p16_224"),
    "volo": Tiny(
        "volo.VOLO",
        {
            "img_size": 32,
            "layers": (1, 1, 1, 1),
            "embed_dims": (16, 32, 32, 32),
            "num_heads": (1, 2, 2, 2),
            "stem_hidden_dim": 8,
        },
    ),
    "twins-pcpvt": stages(
        "twins.Twins", depths=(1, 2, 1, 1), embed_dims=WIDTHS, mlp_ratios=(2,) * 4, sr_ratios=(8, 4, 2, 1), wss=None
    ),
    "twins-svt": stages("twins.Twins", depths=(2, 2, 2, 1), embed_dims=WIDTHS, mlp_ratios=(2,) * 4, wss=(4,) * 4),
    "pvt_v2": with_dims("pvt_v2.PyramidVisionTransformerV2", embed_dims=(8, 16, 16, 32), num_heads=(1, 1, 2, 2)),
    "convit": plain("convit_tiny", patch_size=8, local_up_to_layer=1),
    "davit": with_dims("davit_tiny", depths=(1, 1), embed_dims=(8, 16), num_heads=(1, 2)),
    "gcvit": stages("gcvit.GlobalContextVit", embed_dim=16, window_size=(4, 4, 4, 2)),
    "hiera": Tiny(
        "hiera_tiny_224", {"img_size": 64, "embed_dim": 16, "num_heads": 1, "stages": (1, 1, 2), "q_pool": 2}
    ),
    "hieradet": Tiny(
        "sam2_hiera_tiny", {"embed_dim": 16, "num_heads": 1, "stages": (1, 1, 2, 1), "global_att_blocks": (3,)}, 64
    ),
    "levit": Tiny(
        "levit.Levit",
        {"img_size": 64, "embed_dim": (16, 32, 32), "depth": (1, 1, 1), "num_heads": (1, 2, 2), "key_dim": 8},
    ),
    "maxvit": with_dims("maxvit_rmlp_pico_rw_256", img_size=64, depths=(1, 1), embed_dim=(32, 32), stem_width=8),
    "coatnet": with_dims("coatnet_0_rw_224", img_size=64, depths=(1,) * 4, embed_dim=(32, 32, 64, 64), stem_width=8),
    "mvitv2": Tiny(
        "mvitv2.MultiScaleVit",
        {
            "cfg": MultiScaleVitCfg(depths=(1, 1, 1), embed_dim=16, stride_q=((1, 1), (2, 2), (2, 2))),
            "img_size": (64, 64),
        },
        64,
    ),
    "nest": Tiny(
        "nest.Nest", {"img_size": 64, "embed_dims": (16, 32, 32), "num_heads": (1, 2, 2), "depths": (1, 1, 2)}
    ),
    "pit": Tiny(
        "pit.PoolingVisionTransformer",
        {
            "img_size": 64,
            "patch_size": 16,
            "stride": 8,
            "stem_type": "overlap",
            "base_dims": (16,) * 3,
            "depth": (1, 1, 1),
            "heads": (1, 2, 2),
            "mlp_ratio": 2,
        },
    ),
    "tnt": Tiny(
        "tnt_s_patch16_224",
        {"img_size": 32, "embed_dim": 32, "inner_dim": 8, "depth": 3, "num_heads_inner": 2, "num_heads_outer": 2},
    ),
    "tiny_vit": with_dims("tiny_vit_5m_224", 224, depths=(1,) * 4, embed_dims=WIDTHS, num_heads=(1, 1, 2, 2)),
    "efficientformer": with_dims("efficientformer_l1", 224, depths=(1, 1, 1, 2), embed_dims=WIDTHS, num_vit=1),
    "efficientformerv2": with_dims("efficientformerv2_s0", 224, depths=(1, 1, 2, 2), embed_dims=WIDTHS, num_vit=1),
    "mobilevit": Tiny("mobilevit_xxs", {}, 64),
    "mobilevitv2": Tiny("mobilevitv2_050", {}, 64),
    "edgenext": with_dims("edgenext_xx_small", depths=(1, 1, 2, 1), dims=WIDTHS),
    "fastvit": Tiny("fastvit_sa12", {"layers": (1,) * 4, "embed_dims": WIDTHS}, 64),
    "crossvit": Tiny(
        "crossvit.CrossVit",
        {
            "img_size": 48,
            "img_scale": (1.0, 1.0),
            "patch_size": (6, 8),
            "embed_dim": (16, 32),
            "depth": ((1, 1, 0), (1, 1, 0)),
            "num_heads": (2, 2),
            "mlp_ratio": (2.0, 2.0, 1.0),
        },
    ),
    "metaformer": with_dims("metaformer.MetaFormer", depths=(1,) * 4, dims=WIDTHS),
    "visformer": Tiny("visformer_tiny", {"img_size": 64, "depth": (1, 1, 1), "embed_dim": 32, "init_channels": 8}),
    "cvt": Tiny(
        "mimi_edge.training.cvt.make_cvt",
        {"depth": [1, 2, 3], "embed_dim": [16, 16, 32], "num_heads": [1, 1, 2], "mlp_ratio": [2.0, 2.0, 2.0]},
        64,
    ),
    "swin": Tiny(
        "swin_tiny_patch4_window7_224",
        {"img_size": 32, "window_size": 4, "embed_dim": 24, "depths": (2, 1), "num_heads": (2, 4)},
    ),
    "swinv2": Tiny(
        "swinv2_tiny_window8_256",
        {"img_size": 32, "window_size": 4, "embed_dim": 24, "depths": (2, 1), "num_heads": (2, 4)},
    ),
    "swinv2-cr": Tiny(
        "swinv2_cr_tiny_224",
        {"img_size": 64, "window_size": 4, "embed_dim": 24, "depths": (2, 1), "num_heads": (2, 4)},
    ),
}


WIDE = {
    "vit": (16, 48),
    "dinov2": (28, 42),
    "swin": (16, 64),  # which leaves windows of 2 x 4 in the last stage
    "davit": (64, 96),
}
"""Height and width of images that are no squares."""


@cache
def wide_family(name: str) -> LoadedBackbone:
    tiny = TINY[name]
    sized = {"img_size": WIDE[name]} if "img_size" in tiny.arguments else {}
    return _filled(Tiny(tiny.model, {**tiny.arguments, **sized}, WIDE[name]), f"wide {name}")


@cache
def tiny_family(name: str) -> LoadedBackbone:
    return _filled(TINY[name], f"tiny {name}")


def _filled(tiny: Tiny, name: str) -> LoadedBackbone:
    torch.manual_seed(0)
    module = tiny.make()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return described(module.eval().requires_grad_(False), name)
