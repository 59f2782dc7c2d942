"""Random erasing: noise in the place of a part of some images."""

from __future__ import annotations

import torch
from torch import Tensor

from mimi_edge.training.augmentation.chance import Chance
from mimi_edge.training.augmentation.rectangles import rectangles

AREAS = (0.02, 1 / 3)
"""Of the part that is erased, as shares of the image: what timm takes."""
ASPECT = 10 / 3
"""It is at most so many times as wide as high, or as high as wide."""


def erased(pixels: Tensor, share: float, chance: Chance) -> Tensor:
    """Fills a rectangle of some images with noise.

    Args:
        pixels: uint8 [B, 3, H, W].
        share: of the images that lose a part, on average.
        chance: of these images.
    """
    chosen, of_chosen = chance.some(share)
    height, width, down, right = rectangles(of_chosen, AREAS, ASPECT)
    noise = of_chosen.noise(*pixels.shape[1:])
    rows = _between(pixels.shape[-2], down * (1 - height), height)
    columns = _between(pixels.shape[-1], right * (1 - width), width)
    where = (rows[:, :, None] & columns[:, None, :])[:, None].to(pixels.device)
    made, index = pixels.clone(), chosen.to(pixels.device)
    made[index] = torch.where(where, noise.to(pixels.device), pixels[index])
    return made


def _between(side: int, begin: Tensor, length: Tensor) -> Tensor:
    steps = (torch.arange(side) + 0.5) / side
    return (steps >= begin[:, None]) & (steps < (begin + length)[:, None])
