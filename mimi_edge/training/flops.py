"""Counting what a forward pass costs, by torch's own counter: 2 x multiply-accumulates of matrix products."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mimi_edge.images.image_size import ImageSize


class FlopsCount(str, Enum):
    """Which operations count.

    `full` counts linear and convolution layers and the products inside attention (queries by keys, weights by
    values). `paper` gives the figures of the tables of arXiv 2311.03873: it leaves the products inside attention out
    and counts layer normalisations with 5 operations an element, 8.72 GFLOPs for bare Swin-T at 224 pixels.
    """

    FULL = "full"
    PAPER = "paper"


def _normalisation(input_shape: torch.Size, *_: object, **__: object) -> int:
    return 5 * math.prod(input_shape)


_NORMALISATIONS: Mapping[Any, Callable[..., int]] = {torch.ops.aten.native_layer_norm: _normalisation}
_PRODUCTS_OF_ATTENTION = torch.ops.aten.bmm
"""What attention's products come down to: products of batches of matrices, neither of which is a layer's weight."""


def count_flops(module: nn.Module, input_size: ImageSize, count: FlopsCount) -> int:
    """Operations of one image through a model.

    Args:
        module: takes images [1, 3, H, W].
        input_size: H and W.
        count: which operations count.
    """
    # Detached, as the counter stumbles over a parameter that is itself what a layer is given.
    frozen = {name: parameter.detach() for name, parameter in module.named_parameters()}
    images = torch.zeros(1, 3, *input_size, device=next(module.parameters()).device)
    of_paper = count is FlopsCount.PAPER
    counter = FlopCounterMode(display=False, custom_mapping=dict(_NORMALISATIONS) if of_paper else None)
    # The counter knows no CPU's fused attention, but the products that it is made of.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        functional_call(module, frozen, images)
    total = int(counter.get_total_flops())
    return total - int(counter.get_flop_counts()["Global"].get(_PRODUCTS_OF_ATTENTION, 0)) if of_paper else total
