"""What methods may know of a loaded backbone."""

from __future__ import annotations

from timm.models.swin_transformer import WindowAttention
from timm.models.vision_transformer import Attention, VisionTransformer
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mimi_edge.methods.network import Network
from mimi_edge.sites import Site
from mimi_edge.training.families import Family, TimmModel


def network_of(module: TimmModel, family: Family, sites: tuple[Site, ...], input_size: int) -> Network:
    """A timm model without classifier as methods see it.

    Args:
        module: the model.
        family: what is known of its kind.
        sites: its sites, in order.
        input_size: S, in pixels.
    """
    shapes = {name: tuple(value.shape) for name, value in module.named_parameters()}
    folded = tuple(f"{name}." for name, part in module.named_modules() if isinstance(part, _BatchNorm | nn.GroupNorm))
    attentions = [(site.name, module.get_submodule(site.name)) for site in sites[::2]]
    return Network(
        sites=sites,
        features=int(module.num_features),
        parameters={
            name: shape
            for name, shape in shapes.items()
            if not name.startswith(folded) and not any(part in name for part in family.computed)
        },
        input_size=input_size,
        takes_tokens=tuple(name for name, attention in attentions if _looks_at_more(attention)),
        takes_prompts=isinstance(module, VisionTransformer) and not getattr(module, "attn_pool", None),
        # LeViT's attention and its descendants' give each head its queries, keys and values one after another.
        by_head=tuple(name for name, attention in attentions if hasattr(attention, "attention_biases")),
    )


def _looks_at_more(attention: nn.Module) -> bool:
    """Whether keys and values can be added to an attention of timm from outside."""
    if type(attention) is Attention:
        return isinstance(attention.q_norm, nn.Identity) and isinstance(attention.k_norm, nn.Identity)
    return type(attention) is WindowAttention
