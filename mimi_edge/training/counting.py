"""Counting what a forward pass costs: 2 x multiply-accumulates of linear and convolution layers and of attention."""

from __future__ import annotations

import math
from enum import Enum

import torch
from torch import Tensor, nn

from mimi_edge.training.families import sub_layer_names


class FlopsCount(str, Enum):
    """Which products count.

    `full` has the products inside attention (queries by keys, weights by values); `paper` leaves them out, as the
    tables of arXiv 2311.03873 do: 8.72 GFLOPs for bare Swin-T at 224 pixels.
    """

    FULL = "full"
    PAPER = "paper"


def backbone_flops(backbone: nn.Module, input_size: int, count: FlopsCount) -> int:
    """Operations of one image through a bare backbone.

    Args:
        backbone: a timm model of a supported family, without classifier.
        input_size: side of the image in pixels.
        count: whether attention's own products count.
    """
    total = 0

    def add_linear(module: nn.Module, _: object, output: Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Linear):
            total += 2 * output.numel() * module.in_features
        elif isinstance(module, nn.Conv2d):
            total += 2 * output.numel() * module.in_channels // module.groups * math.prod(module.kernel_size)

    def add_attention(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        # Windows (or images) x tokens x channels: tokens attend to tokens, once with keys and once with values.
        nonlocal total
        windows, tokens, channels = inputs[0].shape
        total += 4 * windows * tokens * tokens * channels

    handles = [
        module.register_forward_hook(add_linear)
        for module in backbone.modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    ]
    if count is FlopsCount.FULL:
        attentions = [name for name in sub_layer_names(backbone) if name.endswith(".attn")]
        handles += [backbone.get_submodule(name).register_forward_pre_hook(add_attention) for name in attentions]
    try:
        device = next(backbone.parameters()).device
        with torch.no_grad():
            backbone(torch.zeros(1, 3, input_size, input_size, device=device))
    finally:
        for handle in handles:
            handle.remove()
    return total
