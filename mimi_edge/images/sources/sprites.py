"""Sprites after the definition of dSprites (Matthey et al., 2017), drawn by formula: white on black, 64 x 64 pixels.

Three shapes, six scales from a half to one, forty orientations over a turn, 32 x 32 positions of the centre: all of it
combined.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SIDE = 64
SHAPES = ("square", "ellipse", "heart")
SCALES = np.linspace(0.5, 1.0, 6)
ORIENTATIONS = np.linspace(0.0, 2 * np.pi, 40)
"""The last is the first again, as in dSprites."""
POSITIONS = np.linspace(16.0, SIDE - 16.0, 32)
"""Of the centre, in pixels from the left and from the top: no sprite is cut off."""
COUNTS = (len(SHAPES), len(SCALES), len(ORIENTATIONS), len(POSITIONS), len(POSITIONS))
"""How many values each factor has, in the order of `Sprite`."""
RADIUS = 14.0
"""Pixels from the centre to the farthest corner of a square of scale 1."""

Coordinates = NDArray[np.float64]


@dataclass(frozen=True)
class Sprite:
    """One image, by the number of each of its factors: indices into SHAPES, SCALES, ORIENTATIONS, POSITIONS twice."""

    shape: int
    scale: int
    orientation: int
    x: int
    y: int


def sprite_numbered(number: int) -> Sprite:
    """The one of that number, out of all combinations; the last factor changes fastest."""
    return Sprite(*(int(factor) for factor in np.unravel_index(number, COUNTS)))


def draw(sprite: Sprite) -> NDArray[np.uint8]:
    """The image [64, 64], 255 inside the shape and 0 outside."""
    middle = (POSITIONS[sprite.x], POSITIONS[sprite.y])
    covered = covers(SHAPES[sprite.shape], SCALES[sprite.scale], ORIENTATIONS[sprite.orientation], *middle)
    return np.where(covered, np.uint8(255), np.uint8(0))


def covers(shape: str, scale: float, turn: float, x: float, y: float) -> NDArray[np.bool_]:
    """Which pixels [64, 64] lie inside a shape.

    Args:
        shape: one of `SHAPES`.
        scale: 1 is the largest of dSprites.
        turn: in radians.
        x: of its centre, in pixels from the left.
        y: in pixels from the top.
    """
    columns, rows = np.meshgrid(np.arange(SIDE) - x, np.arange(SIDE) - y)
    size = RADIUS * scale
    right = (columns * np.cos(turn) + rows * np.sin(turn)) / size
    up = (columns * np.sin(turn) - rows * np.cos(turn)) / size
    return _INSIDE[shape](right, up)


def _square(right: Coordinates, up: Coordinates) -> NDArray[np.bool_]:
    return np.asarray(np.maximum(np.abs(right), np.abs(up)) <= np.sqrt(0.5))


def _ellipse(right: Coordinates, up: Coordinates) -> NDArray[np.bool_]:
    return np.asarray(right**2 + (2 * up) ** 2 <= 1)


def _heart(right: Coordinates, up: Coordinates) -> NDArray[np.bool_]:
    """The curve (x^2 + y^2 - 1)^3 = x^2 y^3, which reaches about 1.3 from its centre."""
    x, y = 1.3 * right, 1.3 * up
    return np.asarray((x**2 + y**2 - 1) ** 3 <= x**2 * y**3)


_INSIDE = {"square": _square, "ellipse": _ellipse, "heart": _heart}
