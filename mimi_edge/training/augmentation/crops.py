"""Random crops of the fitted images, stretched back to their size: torchvision's RandomResizedCrop for a batch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from mimi_edge.training.augmentation.chance import Chance
from mimi_edge.training.augmentation.rectangles import rectangles

ASPECT = 4 / 3
"""Crops are at most so many times as wide as high, or as high as wide."""


def cropped(pixels: Tensor, least_area: float, chance: Chance) -> Tensor:
    """Replaces each image by a part of itself.

    Args:
        pixels: uint8 [B, 3, H, W].
        least_area: of a part, as a share of the image; the most is all of it.
        chance: of these images.
    """
    height, width, down, right = rectangles(chance, (least_area, 1), ASPECT)
    theta = torch.zeros(len(pixels), 2, 3)
    theta[:, 0, 0], theta[:, 0, 2] = width, (2 * right - 1) * (1 - width)
    theta[:, 1, 1], theta[:, 1, 2] = height, (2 * down - 1) * (1 - height)
    grid = functional.affine_grid(theta.to(pixels.device), list(pixels.shape), align_corners=False)
    made = functional.grid_sample(pixels.float(), grid, padding_mode="border", align_corners=False)
    return made.round().clamp(0, 255).to(torch.uint8)
