"""Brightness, contrast and saturation by chance, other ones for each image of a batch."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from mimi_edge.training.augmentation.chance import Chance


def jittered(pixels: Tensor, strength: float, chance: Chance) -> Tensor:
    """Multiplies each image's brightness, contrast and saturation, in this order, by 1 - strength to 1 + strength.

    Args:
        pixels: uint8 [B, 3, H, W].
        strength: 0 changes nothing, 1 may take all away.
        chance: of these images.
    """
    factors = 1 + strength * (2 * chance.shares(3)[..., None, None, None] - 1)
    brightness, contrast, saturation = factors.to(pixels.device)
    made = (pixels.float() * brightness).clamp(0, 255)
    grey = functional.rgb_to_grayscale(made).mean((1, 2, 3), keepdim=True)
    made = torch.lerp(grey, made, contrast).clamp(0, 255)
    made = torch.lerp(functional.rgb_to_grayscale(made), made, saturation)
    return made.round().clamp(0, 255).to(torch.uint8)
