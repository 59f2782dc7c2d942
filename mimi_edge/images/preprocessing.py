"""From an image of any size to the numbers a backbone wants, with Pillow and numpy alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mimi_edge.errors import ConfigError

if TYPE_CHECKING:
    from PIL.Image import Image

INTERPOLATIONS = ("bilinear", "bicubic", "lanczos", "nearest")
LARGEST_SIDE = 8192
"""Of a resized image, in pixels; a longer one is a slip, and would need more memory than an image is worth."""
LONGEST_RATIO = 32
"""Of long to short side."""
MOST_PIXELS = 16_000_000
"""Of a resized image, 64 MB. Beyond both only what the crop shows is resized, or a thin strip would fill the memory."""


@dataclass(frozen=True)
class Preprocessing:
    """Resize the shorter side, crop the middle, scale to 0..1, normalise by channel.

    Attributes:
        size: side in pixels of the square that the backbone sees.
        resize: length in pixels of the shorter side before the crop, at least `size`.
        interpolation: `bilinear`, `bicubic`, `lanczos` or `nearest`.
        mean: of red, green and blue, of values in 0..1.
        std: likewise, above 0.

    Raises:
        ConfigError: a value makes no sense; every fault is named.
    """

    size: int
    resize: int
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        if faults := _faults(self):
            listed = "\n".join(f"  - {fault}" for fault in faults)
            raise ConfigError(f"These preprocessing settings cannot be used:\n{listed}\nCorrect them and try again.")


def fit(image: Image, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Makes an image the backbone's size: the shorter side becomes `resize`, then the middle is cropped.

    Pixel for pixel what torchvision's `Resize` and `CenterCrop` make of a Pillow image; small images grow. Strips that
    are too large to be resized whole come out alike, and not the same to the last level.

    Args:
        image: of mode RGB and any size.
        preprocessing: of the task; S below is its size.

    Returns:
        [S, S, 3], the values still 0..255.
    """
    size = preprocessing.size
    width, height = _resized(image.width, image.height, preprocessing.resize)
    left, top = round((width - size) / 2), round((height - size) / 2)
    if max(width, height) > LONGEST_RATIO * min(width, height) and width * height > MOST_PIXELS:
        return np.array(_resized_middle(image, (width, height), (left, top), preprocessing))
    resized = image.resize((width, height), _filter(preprocessing))
    return np.array(resized.crop((left, top, left + size, top + size)))


def normalise(images: NDArray[np.uint8], preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Scales images to 0..1, takes the mean away and divides by the standard deviation, channel by channel.

    Args:
        images: [B, S, S, 3] as `fit` makes them.
        preprocessing: of the task.

    Returns:
        [B, 3, S, S], contiguous, as a backbone takes it.
    """
    mean = np.asarray(preprocessing.mean, np.float32)[:, None, None]
    std = np.asarray(preprocessing.std, np.float32)[:, None, None]
    values = np.ascontiguousarray(images.transpose(0, 3, 1, 2)).astype(np.float32)
    values /= 255
    values -= mean
    values /= std
    return values


def _resized(width: int, height: int, resize: int) -> tuple[int, int]:
    """Width and height once the shorter side is `resize`; the longer one rounds down, as in torchvision."""
    longer = int(resize * max(width, height) / min(width, height))
    return (resize, longer) if width <= height else (longer, resize)


def _resized_middle(
    image: Image, resized: tuple[int, int], corner: tuple[int, int], preprocessing: Preprocessing
) -> Image:
    """What the crop shows of the resized image, without making the rest of it."""
    size = preprocessing.size
    across, along = image.width / resized[0], image.height / resized[1]
    left, top = corner
    box = (left * across, top * along, (left + size) * across, (top + size) * along)
    return image.resize((size, size), _filter(preprocessing), box=box)


def _filter(preprocessing: Preprocessing) -> int:
    from PIL.Image import Resampling

    return int(Resampling[preprocessing.interpolation.upper()])


def _faults(preprocessing: Preprocessing) -> list[str]:
    faults = _side_faults(preprocessing)
    if preprocessing.interpolation not in INTERPOLATIONS:
        expected = ", ".join(INTERPOLATIONS)
        faults.append(f"interpolation: expected one of {expected}, got {preprocessing.interpolation!r}")
    faults += _channel_faults("mean", preprocessing.mean)
    faults += _channel_faults("std", preprocessing.std)
    if not _channel_faults("std", preprocessing.std) and min(preprocessing.std) <= 0:
        faults.append(f"std: expected three numbers above 0, got {preprocessing.std}")
    return faults


def _side_faults(preprocessing: Preprocessing) -> list[str]:
    faults = []
    sides = {"size": preprocessing.size, "resize": preprocessing.resize}
    for name, side in sides.items():
        if type(side) is not int or not 1 <= side <= LARGEST_SIDE:
            faults.append(f"{name}: expected a whole number of pixels from 1 to {LARGEST_SIDE}, got {side!r}")
    if not faults and preprocessing.resize < preprocessing.size:
        faults.append(f"resize: expected at least the size, {preprocessing.size}, got {preprocessing.resize}")
    return faults


def _channel_faults(name: str, values: object) -> list[str]:
    """What keeps `values` from being three finite numbers; they may come from a file, so anything is possible."""
    if (
        isinstance(values, tuple)
        and len(values) == 3
        and all(type(value) in (int, float) and math.isfinite(value) for value in values)
    ):
        return []
    return [f"{name}: expected three finite numbers, for red, green and blue, got {values!r}"]
