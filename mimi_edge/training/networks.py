"""What methods may know of a loaded backbone."""

from __future__ import annotations

from timm.models.swin_transformer import WindowAttention
from timm.models.vision_transformer import Attention, VisionTransformer
from torch import nn

from mimi_edge.methods.network import Network
from mimi_edge.sites import Site
from mimi_edge.training.families import TimmModel

WORKED_OUT = ("cpb_mlp", "logit_scale", "q_bias", "v_bias")
"""Parts of parameters' names that Swin V2 computes a bias and a scale from; the exported graph has what comes out."""


def network_of(module: TimmModel, sites: tuple[Site, ...], input_size: int) -> Network:
    """A timm model without classifier as methods see it.

    Args:
        module: the model.
        sites: its sites, in order.
        input_size: S, in pixels.
    """
    shapes = {name: tuple(value.shape) for name, value in module.named_parameters()}
    return Network(
        sites=sites,
        features=int(module.num_features),
        parameters={name: shape for name, shape in shapes.items() if not any(part in name for part in WORKED_OUT)},
        input_size=input_size,
        takes_tokens=tuple(name for site in sites if _looks_at_more(module.get_submodule(name := site.name))),
        takes_prompts=isinstance(module, VisionTransformer) and not getattr(module, "attn_pool", None),
    )


def _looks_at_more(attention: nn.Module) -> bool:
    """Whether keys and values can be added to an attention of timm from outside."""
    if type(attention) is Attention:
        return isinstance(attention.q_norm, nn.Identity) and isinstance(attention.k_norm, nn.Identity)
    return type(attention) is WindowAttention
