"""Mixup (arXiv 1710.09412) and CutMix (arXiv 1905.04899): images of a batch mixed with others, and their targets."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from mimi_edge.training.batches import Place, seed_for
from mimi_edge.training.rows import Rows


@dataclass(frozen=True)
class Mixing:
    """How strongly images are mixed; where both are asked for, each batch has one of them, by chance.

    Attributes:
        mixup: alpha of the shares' Beta distribution; 0 for none.
        cutmix: the same of the areas.
    """

    mixup: float = 0
    cutmix: float = 0

    def __bool__(self) -> bool:
        """Whether anything is mixed."""
        return self.mixup > 0 or self.cutmix > 0


def mixed(
    pixels: Tensor, targets: Tensor, mixing: Mixing, seed: int, place: Place, rows: Rows | None = None
) -> tuple[Tensor, Tensor]:
    """Mixes each image with the one at the same place from the end, one share for the whole batch.

    Args:
        pixels: uint8 [b, 3, H, W] of `rows.with_mirrored()`.
        targets: float32 [b, C] of the same images, each row's sum 1.
        mixing: which, and how strongly.
        seed: of the run.
        place: of the step.
        rows: n of the batch that are wanted; None for all.

    Returns:
        float32 [n, 3, H, W] of 0..255, and float32 [n, C].
    """
    rows = rows or Rows.all_of(len(pixels))
    here = rows.with_mirrored()
    pixels, others = here.picked(pixels, rows.numbers), here.picked(pixels, rows.mirrored)
    targets, other_targets = here.picked(targets, rows.numbers), here.picked(targets, rows.mirrored)
    random = np.random.default_rng(seed_for(seed, "mix", place.round, place.epoch, place.step))
    is_cut = mixing.mixup == 0 or (mixing.cutmix > 0 and random.random() < 0.5)
    alpha = mixing.cutmix if is_cut else mixing.mixup
    kept = float(random.beta(alpha, alpha))
    if is_cut:
        made, kept = _with_a_patch(pixels.float(), others, kept, random)
    else:
        made = pixels.float().mul_(kept).add_(others.float(), alpha=1 - kept)
    return made, targets * kept + other_targets * (1 - kept)


def _with_a_patch(pixels: Tensor, others: Tensor, kept: float, random: np.random.Generator) -> tuple[Tensor, float]:
    """Puts a part of the other image into each; also gives the share of the area that is left of the first.

    The part has the image's own shape: a square of a square.
    """
    sides = tuple(pixels.shape[-2:])
    middles = random.uniform(0, 1, 2) * sides
    halves = [side * math.sqrt(1 - kept) / 2 for side in sides]
    top, left = (max(0, round(middle - half)) for middle, half in zip(middles, halves, strict=True))
    bottom, right = (min(side, round(middle + half)) for side, middle, half in zip(sides, middles, halves, strict=True))
    made = pixels.clone()
    made[:, :, top:bottom, left:right] = others[:, :, top:bottom, left:right]
    return made, 1 - max(0, bottom - top) * max(0, right - left) / math.prod(sides)
