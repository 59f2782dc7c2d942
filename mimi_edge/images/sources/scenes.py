"""Several sprites in one image, none of which touches another: how many are there?

Asked as VTAB's Clevr-Count asks it of pictures of a rendered table (Johnson et al., 2017): eight classes, and whatever
else there is to see says nothing about the number. These are ours, made from the shapes of `sprites`: one to eight of
them, white on black, 64 x 64 pixels, each with a shape, a size, an orientation and a place of its own.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mimi_edge.images.sources.sprites import RADIUS, SHAPES, SIDE, covers

LARGEST_COUNT = 8
SCALES = (0.2, 0.42)
"""Between these, for all sprites of a scene alike, so that the area that is white does not give their number away."""
UNLIKE = (0.9, 1.1)
"""Of a scene's scale, between these for each of its sprites."""
REACH = 1.3 * RADIUS
"""Pixels from the centre of a sprite of scale 1 that no shape exceeds; a heart's tip comes closest."""
APART = 1.5
"""Pixels between two sprites, at least, so that they stay two."""


def count_in(number: int) -> int:
    """How many sprites the scene of that number has: each of 1 to 8 as often as the others."""
    return 1 + number % LARGEST_COUNT


def draw_scene(number: int) -> NDArray[np.uint8]:
    """The image [64, 64] of that number, the same everywhere: 255 inside a shape and 0 outside."""
    chance = np.random.default_rng(number)
    scales = chance.uniform(*SCALES) * chance.uniform(*UNLIKE, count_in(number))
    covered = np.zeros((SIDE, SIDE), np.bool_)
    for scale, (x, y) in zip(scales, _places(scales, chance), strict=True):
        covered |= covers(SHAPES[chance.integers(len(SHAPES))], scale, chance.uniform(0, 2 * np.pi), x, y)
    return np.where(covered, np.uint8(255), np.uint8(0))


def _places(scales: NDArray[np.float64], chance: np.random.Generator) -> list[tuple[float, float]]:
    """A centre for each, inside the image and away from the others; begun anew where the last ones find no room."""
    while True:
        found: list[tuple[float, float, float]] = []
        for scale in scales:
            radius = REACH * scale
            for x, y in chance.uniform(radius, SIDE - 1 - radius, (50, 2)):
                if all(np.hypot(x - left, y - top) >= radius + theirs + APART for left, top, theirs in found):
                    found.append((float(x), float(y), radius))
                    break
        if len(found) == len(scales):
            return [(x, y) for x, y, _ in found]
