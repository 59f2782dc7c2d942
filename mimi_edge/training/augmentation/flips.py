"""Mirrored images, and images that are moved a little: the two variations that cost next to nothing."""

from __future__ import annotations

import torch
from torch import Tensor

from mimi_edge.training.augmentation.chance import Chance

SHIFT_SHARE = 8
"""Images move by at most an eighth of their shorter side where they are augmented by shifts."""


def flipped(pixels: Tensor, chance: Chance) -> Tensor:
    """Mirrors half of the images, uint8 [B, 3, H, W]."""
    mirrored = (chance.shares() < 0.5).to(pixels.device)
    return torch.where(mirrored[:, None, None, None], pixels.flip(-1), pixels)


def shifted(pixels: Tensor, chance: Chance) -> Tensor:
    """Moves each of the images, uint8 [B, 3, H, W], by some pixels; the edge is repeated."""
    count, sides = len(pixels), pixels.shape[-2:]
    most = max(1, min(sides) // SHIFT_SHARE)
    moves = chance.whole_numbers(-most, most + 1, 2)[..., None]
    rows, columns = (
        (torch.arange(side) + move).clamp(0, side - 1).to(pixels.device)
        for side, move in zip(sides, moves, strict=True)
    )
    batch = torch.arange(count, device=pixels.device)[:, None, None]
    return pixels[batch, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
