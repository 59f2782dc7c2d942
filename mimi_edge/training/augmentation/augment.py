"""What `--augment` asks for, done to a batch."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from mimi_edge.training.augmentation.chance import Chance
from mimi_edge.training.augmentation.colours import jittered
from mimi_edge.training.augmentation.crops import cropped
from mimi_edge.training.augmentation.erasing import erased
from mimi_edge.training.augmentation.flips import flipped, shifted
from mimi_edge.training.augmentation.kinds import augment_kinds
from mimi_edge.training.augmentation.randaugment import rand_augmented
from mimi_edge.training.batches import Place, generator_for
from mimi_edge.training.rows import Rows

DONE_BY: dict[str, Callable[[Tensor, float, Chance], Tensor]] = {
    "crop": cropped,
    "flip": lambda pixels, _, chance: flipped(pixels, chance),
    "shift": lambda pixels, _, chance: shifted(pixels, chance),
    "randaugment": rand_augmented,
    "jitter": jittered,
    "erasing": erased,
}
"""Functions of pixels uint8 [b, 3, H, W], strength, and chance; other kinds are done where images are read."""


def augmented(pixels: Tensor, kinds: str, seed: int, place: Place, rows: Rows | None = None) -> Tensor:
    """A variation of a batch, which seed and place alone decide.

    Args:
        pixels: uint8 [b, 3, H, W].
        kinds: as of `--augment`.
        seed: of the run.
        place: of the step.
        rows: of the batch that these are; None for all.
    """
    generator = generator_for(seed, "augment", place.round, place.epoch, place.step)
    chance = Chance(generator, rows or Rows.all_of(len(pixels)))
    for kind in augment_kinds(kinds):
        if kind.name in DONE_BY:
            pixels = DONE_BY[kind.name](pixels, kind.strength, chance)
    return pixels
