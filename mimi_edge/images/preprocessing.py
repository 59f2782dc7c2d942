"""From an image of any size to the numbers a backbone wants, with Pillow and numpy alone."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mimi_edge.errors import ConfigError
from mimi_edge.images.image_size import ImageSize
from mimi_edge.texts import fault_list

if TYPE_CHECKING:
    from PIL.Image import Image

INTERPOLATIONS = ("bilinear", "bicubic", "lanczos", "nearest")
LONGEST_RATIO = 32
"""Of long to short side."""
MOST_PIXELS = 16_000_000
"""Of a resized image, 64 MB. Beyond both only what the crop shows is resized, or a thin strip would fill the memory."""


@dataclass(frozen=True)
class Preprocessing:
    """Resize until a box is covered, crop the middle, scale to 0..1, normalise by channel.

    Attributes:
        size: [H, W] of what the backbone sees; of a square, its side can be given.
        resize: the box, at least `size`: of a square, an image's shorter side gets as long as its side.
        interpolation: `bilinear`, `bicubic`, `lanczos` or `nearest`.
        mean: of red, green and blue, of values in 0..1.
        std: likewise, above 0.

    Raises:
        ConfigError: a value makes no sense; every fault is named.
    """

    size: ImageSize
    resize: ImageSize
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        faults = []
        for name in ("size", "resize"):
            try:
                object.__setattr__(self, name, ImageSize.of(getattr(self, name)))
            except ValueError as error:
                faults.append(f"{name}: {error}")
        if faults := [*(faults or _box_faults(self)), *_faults(self)]:
            raise ConfigError(
                f"These preprocessing settings cannot be used:\n{fault_list(faults)}\nCorrect them and try again."
            )

    def document(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self) | {"size": self.size.document, "resize": self.resize.document}


def fit(image: Image, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Makes an image the backbone's size: it is resized to cover `resize`, then the middle is cropped.

    Of squares, pixel for pixel what torchvision's `Resize` and `CenterCrop` make of a Pillow image; small images grow.
    Strips that are too large to be resized whole come out alike, and not the same to the last level.

    Args:
        image: of mode RGB and any size.
        preprocessing: of the task; H and W below are its size.

    Returns:
        [H, W, 3], the values still 0..255.
    """
    size = preprocessing.size
    width, height = _resized(image.width, image.height, preprocessing.resize)
    left, top = round((width - size.width) / 2), round((height - size.height) / 2)
    if max(width, height) > LONGEST_RATIO * min(width, height) and width * height > MOST_PIXELS:
        return np.array(_resized_middle(image, (width, height), (left, top), preprocessing))
    resized = image.resize((width, height), _filter(preprocessing))
    return np.array(resized.crop((left, top, left + size.width, top + size.height)))


def fit_part(image: Image, part: tuple[float, float, float, float], preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Makes a part of an image the backbone's size, [H, W, 3], whatever its shape.

    Args:
        image: of mode RGB and any size.
        part: left, top, right and bottom in pixels, which may lie between two.
        preprocessing: of the task; H and W are its size.
    """
    size = preprocessing.size
    return np.array(image.resize((size.width, size.height), _filter(preprocessing), box=part))


def resizing_in_words(preprocessing: Preprocessing) -> str:
    """Until when an image is resized, for people; `px` or `pixels` goes behind it."""
    box = preprocessing.resize
    return f"its shorter side to {box}" if box.is_square else f"until it covers {box.in_words}"


def normalise(images: NDArray[np.uint8], preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Scales images to 0..1, takes the mean away and divides by the standard deviation, channel by channel.

    Args:
        images: [B, H, W, 3] as `fit` makes them.
        preprocessing: of the task.

    Returns:
        [B, 3, H, W], contiguous, as a backbone takes it.
    """
    mean = np.asarray(preprocessing.mean, np.float32)[:, None, None]
    std = np.asarray(preprocessing.std, np.float32)[:, None, None]
    values = np.ascontiguousarray(images.transpose(0, 3, 1, 2)).astype(np.float32)
    values /= 255
    values -= mean
    values /= std
    return values


def _resized(width: int, height: int, resize: ImageSize) -> tuple[int, int]:
    """Width and height once the box is just covered; the side that is left over rounds down, as in torchvision."""
    if width * resize.height <= height * resize.width:
        return resize.width, int(resize.width * height / width)
    return int(resize.height * width / height), resize.height


def _resized_middle(
    image: Image, resized: tuple[int, int], corner: tuple[int, int], preprocessing: Preprocessing
) -> Image:
    """What the crop shows of the resized image, without making the rest of it."""
    size = preprocessing.size
    across, along = image.width / resized[0], image.height / resized[1]
    left, top = corner
    box = (left * across, top * along, (left + size.width) * across, (top + size.height) * along)
    return image.resize((size.width, size.height), _filter(preprocessing), box=box)


def _filter(preprocessing: Preprocessing) -> int:
    from PIL.Image import Resampling

    return int(Resampling[preprocessing.interpolation.upper()])


def _faults(preprocessing: Preprocessing) -> list[str]:
    faults = []
    if preprocessing.interpolation not in INTERPOLATIONS:
        expected = ", ".join(INTERPOLATIONS)
        faults.append(f"interpolation: expected one of {expected}, got {preprocessing.interpolation!r}")
    faults += _channel_faults("mean", preprocessing.mean)
    faults += _channel_faults("std", preprocessing.std)
    if not _channel_faults("std", preprocessing.std) and min(preprocessing.std) <= 0:
        faults.append(f"std: expected three numbers above 0, got {preprocessing.std}")
    return faults


def _box_faults(preprocessing: Preprocessing) -> list[str]:
    size, box = preprocessing.size, preprocessing.resize
    if box.height >= size.height and box.width >= size.width:
        return []
    return [f"resize: expected at least the size, {size}, got {box}"]


def _channel_faults(name: str, values: object) -> list[str]:
    """What keeps `values` from being three finite numbers; they may come from a file, so anything is possible."""
    if (
        isinstance(values, tuple)
        and len(values) == 3
        and all(type(value) in (int, float) and math.isfinite(value) for value in values)
    ):
        return []
    return [f"{name}: expected three finite numbers, for red, green and blue, got {values!r}"]
