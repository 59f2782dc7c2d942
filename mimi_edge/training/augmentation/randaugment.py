"""RandAugment (arXiv 1909.13719) on a batch: torchvision's operations, each on the images that drew it."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torchvision.transforms.v2 import functional

from mimi_edge.training.augmentation.chance import Chance

OPERATIONS_EACH = 2
"""N: how many operations an image goes through."""
HIGHEST = 10
"""M of the strongest operations."""
GREY = [128.0]
"""Of what comes in from outside where an image is moved."""
Operation = Callable[[Tensor, float], Tensor]
"""Of uint8 images [B, 3, H, W] and an amount: -1 to 1 in `SIGNED`, 0 to 1 in `STRENGTHENED`."""


def _moved(pixels: Tensor, *, angle: float = 0, right: float = 0, down: float = 0, shear: list[float]) -> Tensor:
    height, width = pixels.shape[-2:]
    moves = [round(right * width), round(down * height)]
    made: Tensor = functional.affine(pixels, angle=angle, translate=moves, scale=1, shear=shear, fill=GREY)
    return made


SIGNED: dict[str, Operation] = {
    "rotate": lambda pixels, amount: _moved(pixels, angle=30 * amount, shear=[0, 0]),
    "shear-x": lambda pixels, amount: _moved(pixels, shear=[17 * amount, 0]),
    "shear-y": lambda pixels, amount: _moved(pixels, shear=[0, 17 * amount]),
    "translate-x": lambda pixels, amount: _moved(pixels, right=0.45 * amount, shear=[0, 0]),
    "translate-y": lambda pixels, amount: _moved(pixels, down=0.45 * amount, shear=[0, 0]),
    "brightness": lambda pixels, amount: functional.adjust_brightness(pixels, 1 + 0.9 * amount),
    "contrast": lambda pixels, amount: functional.adjust_contrast(pixels, 1 + 0.9 * amount),
    "colour": lambda pixels, amount: functional.adjust_saturation(pixels, 1 + 0.9 * amount),
    "sharpness": lambda pixels, amount: functional.adjust_sharpness(pixels, 1 + 0.9 * amount),
}
"""Each with its most at 1 and -1: degrees, shares of the side, factors."""
STRENGTHENED: dict[str, Operation] = {
    "posterise": lambda pixels, amount: functional.posterize(pixels, 8 - round(4 * amount)),
    "solarise": lambda pixels, amount: functional.solarize(pixels, 255 - 255 * amount),
    "autocontrast": lambda pixels, _: functional.autocontrast(pixels),
    "equalise": lambda pixels, _: functional.equalize(pixels),
    "invert": lambda pixels, _: functional.invert(pixels),
}
_ALL = tuple(SIGNED | STRENGTHENED)


def rand_augmented(pixels: Tensor, magnitude: float, chance: Chance) -> Tensor:
    """Does `OPERATIONS_EACH` operations to each image, of all alike probable.

    Args:
        pixels: uint8 [B, 3, H, W].
        magnitude: M, from 0 to `HIGHEST`.
        chance: of these images.
    """
    amount = magnitude / HIGHEST
    made = pixels.clone()
    for _ in range(OPERATIONS_EACH):
        drawn = chance.whole_numbers(0, len(_ALL))
        negative = chance.shares() < 0.5
        for number, name in enumerate(_ALL):
            for sign, chosen in ((1, ~negative), (-1, negative)):
                index = ((drawn == number) & chosen).nonzero()[:, 0].to(pixels.device)
                if len(index):
                    made[index] = _done(name, made[index], amount, sign)
    return made


def _done(name: str, pixels: Tensor, amount: float, sign: int) -> Tensor:
    return SIGNED[name](pixels, sign * amount) if name in SIGNED else STRENGTHENED[name](pixels, amount)
