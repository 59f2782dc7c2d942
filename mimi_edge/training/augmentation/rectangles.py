"""Rectangles by chance, in an image or out of one: how large, which shape, where."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mimi_edge.training.augmentation.chance import Chance


def rectangles(chance: Chance, areas: tuple[float, float], aspect: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Height, width, and how far down and right they begin, each [b].

    Sides are shares of the image's; what is drawn of where they begin is a share of the way that they have left.

    Args:
        chance: of b images.
        areas: the least and the most, as shares of the image.
        aspect: the most that width may be of height, and height of width, as shares of the image's.
    """
    least, most = areas
    area, wide, down, right = chance.shares(4)
    area = least + (most - least) * area
    wider = torch.exp((2 * wide - 1) * math.log(aspect) / 2)
    height, width = ((area.sqrt() * share).clamp(max=1) for share in (1 / wider, wider))
    return height, width, down, right
