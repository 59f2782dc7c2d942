"""What the backbone is asked about each made image: every factor it was made from, read off by linear heads.

Most questions are put to the pooled features, which is what a task's head sees later. Each token of the last stage is
also asked for the outline of the figure in its own patch: without it the first thousand steps teach next to nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from mimi_edge.training.pretraining.images import FAMILIES, OCCUPANCY, TEXTURES, Factors


class FactorHeads(nn.Module):
    """Linear heads on the pooled features.

    Args:
        features: F, width of the pooled features.
        continuous: number of real-valued factors.
        patch: side in pixels of what one token of the last stage stands for.
    """

    def __init__(self, features: int, continuous: int, patch: int) -> None:
        super().__init__()
        self.continuous = nn.Linear(features, continuous)
        self.occupancy = nn.Linear(features, OCCUPANCY**2)
        self.family = nn.Linear(features, FAMILIES + 1)
        self.texture = nn.Linear(features, TEXTURES)
        self.inner_texture = nn.Linear(features, TEXTURES)
        self.outline = nn.Linear(features, patch**2)
        self.patch = patch

    def losses(self, tokens: Tensor, pooled: Tensor, factors: Factors) -> dict[str, Tensor]:
        """One loss for each kind of factor, a scalar of about one at first; tokens [B, H, W, F], pooled [B, F]."""
        patches = functional.pixel_unshuffle(factors.cover[:, None], self.patch).permute(0, 2, 3, 1)
        error = (self.continuous(pooled) - factors.continuous).square() * factors.continuous_mask
        return {
            "continuous": 3 * error.sum() / factors.continuous_mask.sum(),
            "occupancy": 2 * functional.binary_cross_entropy_with_logits(self.occupancy(pooled), factors.occupancy),
            "outline": 2 * functional.binary_cross_entropy_with_logits(self.outline(tokens), patches),
            "family": 0.4 * functional.cross_entropy(self.family(pooled), factors.family),
            "texture": 0.3 * functional.cross_entropy(self.texture(pooled), factors.texture),
            "inner_texture": 0.3 * functional.cross_entropy(self.inner_texture(pooled), factors.inner_texture),
        }

    @torch.no_grad()
    def family_accuracy(self, pooled: Tensor, factors: Factors) -> float:
        """Share of the images whose contour family is answered right."""
        return float((self.family(pooled).argmax(1) == factors.family).float().mean())
