"""What `--augment` asks for, done to a batch."""

from __future__ import annotations

from torch import Tensor

from mimi_edge.training.augmentation.flips import flipped, shifted
from mimi_edge.training.batches import Place, generator_for


def augmented(pixels: Tensor, kinds: str, seed: int, place: Place) -> Tensor:
    """Mirrors half of the images (`flip`), moves each a little (`shift`), or both; pixels [B, 3, S, S]."""
    generator = generator_for(seed, "augment", place.round, place.epoch, place.step)
    if "flip" in kinds:
        pixels = flipped(pixels, generator)
    if "shift" in kinds:
        pixels = shifted(pixels, generator)
    return pixels
