"""From an image of any size to the numbers a backbone wants, with Pillow and numpy alone."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Preprocessing:
    """Resize the shorter side, crop the middle, scale to 0..1, normalise by channel.

    Attributes:
        size: side in pixels of the square that the backbone sees.
        resize: length in pixels of the shorter side before the crop, at least `size`.
        interpolation: `bilinear`, `bicubic`, `lanczos` or `nearest`.
        mean: of red, green and blue, of values in 0..1.
        std: likewise.
    """

    size: int
    resize: int
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
