"""What `--augment` asks for, done to a batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mimi_edge.training.augmentation.colours import jittered
from mimi_edge.training.augmentation.crops import cropped
from mimi_edge.training.augmentation.erasing import erased
from mimi_edge.training.augmentation.flips import flipped, shifted
from mimi_edge.training.augmentation.kinds import augment_kinds
from mimi_edge.training.augmentation.randaugment import rand_augmented
from mimi_edge.training.batches import Place, generator_for

DONE_BY: dict[str, Callable[[Tensor, float, torch.Generator], Tensor]] = {
    "crop": cropped,
    "flip": lambda pixels, _, generator: flipped(pixels, generator),
    "shift": lambda pixels, _, generator: shifted(pixels, generator),
    "randaugment": rand_augmented,
    "jitter": jittered,
    "erasing": erased,
}
"""Functions of pixels uint8 [B, 3, H, W], strength, and generator; other kinds are done where images are read."""


def augmented(pixels: Tensor, kinds: str, seed: int, place: Place) -> Tensor:
    """A variation of a batch, which seed and place alone decide.

    Args:
        pixels: uint8 [B, 3, H, W].
        kinds: as of `--augment`.
        seed: of the run.
        place: of the step.
    """
    generator = generator_for(seed, "augment", place.round, place.epoch, place.step)
    for kind in augment_kinds(kinds):
        if kind.name in DONE_BY:
            pixels = DONE_BY[kind.name](pixels, kind.strength, generator)
    return pixels
