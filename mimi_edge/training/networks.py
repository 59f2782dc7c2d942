"""What methods may know of a loaded backbone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from timm.models.swin_transformer import SwinTransformer, WindowAttention
from timm.models.vision_transformer import Attention, VisionTransformer
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mimi_edge.images.image_size import ImageSize
from mimi_edge.methods.network import TABLE, Network
from mimi_edge.sites import Site
from mimi_edge.training.families import Family, TimmModel
from mimi_edge.training.resumed_pass import Call

FOLDS = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
"""Layers that a normalisation behind them is folded into."""


def network_of(
    module: TimmModel, family: Family, sites: tuple[Site, ...], calls: Mapping[str, Call], input_size: ImageSize
) -> Network:
    """A timm model without classifier as methods see it.

    Args:
        module: the model.
        family: what is known of its kind.
        sites: its sites, in order.
        calls: of its modules, in one pass.
        input_size: H and W.
    """
    shapes = {name: tuple(value.shape) for name, value in module.named_parameters()}
    folded = tuple(f"{name}." for name in _folded(module, calls))
    # The exported graph has a table of relative positions looked up, and only for squares can that be undone.
    looked_up = {f"{name}.{TABLE}" for name, part in module.named_modules() if not _has_square_windows(part)}
    attentions = [(site.name, module.get_submodule(site.name)) for site in sites[::2]]
    return Network(
        sites=sites,
        features=int(module.num_features),
        parameters={
            name: shape
            for name, shape in shapes.items()
            if not name.startswith(folded)
            and not any(part in name for part in family.computed)
            and name not in looked_up
        },
        input_size=input_size,
        takes_tokens=tuple(name for name, attention in attentions if _looks_at_more(attention)),
        takes_prompts=_takes_prompts(module, [attention for _, attention in attentions]),
        # LeViT's attention and its descendants' give each head its queries, keys and values one after another.
        by_head=tuple(name for name, attention in attentions if hasattr(attention, "attention_biases")),
    )


def _folded(module: nn.Module, calls: Mapping[str, Call]) -> Iterator[str]:
    """Modules whose parameters an exported graph has only as a product: normalisations, and what is right before them.

    A normalisation by batch is a scale and a shift of what the layer before it gives, and is folded into that layer.
    """
    parts = dict(module.named_modules())
    ran = sorted((call.begin, name) for name, call in calls.items() if any(True for _ in parts[name].parameters(False)))
    before = ""
    for _, name in ran:
        if isinstance(parts[name], nn.GroupNorm):
            yield name
        elif isinstance(parts[name], _BatchNorm):
            yield name
            if isinstance(parts[before], FOLDS):
                yield before
        before = name


def _takes_prompts(module: TimmModel, attentions: list[TimmModel]) -> bool:
    """Whether tokens can go through all blocks of a model of timm with the image's."""
    if isinstance(module, SwinTransformer):
        # A table tells the side of windows, which must be squares; and images of any size have any number of them.
        return not getattr(module, "dynamic_img_size", False) and all(map(_has_square_windows, attentions))
    return isinstance(module, VisionTransformer) and not getattr(module, "attn_pool", None)


def _has_square_windows(attention: nn.Module) -> bool:
    """Whether a module looks at squares, as far as it looks at windows."""
    window = getattr(attention, "window_size", None)
    return not isinstance(window, tuple) or len(set(window)) == 1


def _looks_at_more(attention: nn.Module) -> bool:
    """Whether keys and values can be added to an attention of timm from outside."""
    if type(attention) is Attention:
        return isinstance(attention.q_norm, nn.Identity) and isinstance(attention.k_norm, nn.Identity)
    return type(attention) is WindowAttention
