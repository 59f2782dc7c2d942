"""Data sets whose images are made by formula: tasks on which the features of a frozen backbone fail, without a network.

VTAB's structured tasks after dSprites: where a sprite is, and how it is turned, each in 16 classes; 1,000 images to
train with, of which 200 are for validation, as in VTAB.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mimi_edge.errors import ConfigError
from mimi_edge.images.sources.asked import Asked
from mimi_edge.images.sources.divided import dataset_of
from mimi_edge.images.sources.names import GENERATED_PREFIX, bare_name
from mimi_edge.images.sources.sprites import COUNTS, ORIENTATIONS, POSITIONS, Sprite, draw, sprite_numbered
from mimi_edge.images.splits import Dataset, Split
from mimi_edge.texts import excerpt

IMAGES: Mapping[str, int] = MappingProxyType({"train": 800, "val": 200, "test": 2_000})
CLASSES = 16
DRAWN_WITH = 2017
"""Seed of which sprites there are: every run has the same, whatever its own seed."""

LABELS: Mapping[str, Callable[[Sprite], int]] = MappingProxyType(
    {
        "sprites-location": lambda sprite: sprite.x * CLASSES // len(POSITIONS),
        "sprites-orientation": lambda sprite: sprite.orientation * CLASSES // len(ORIENTATIONS),
    }
)
"""What is asked of an image, by the name of the data set."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """Draws images by index.

    Attributes:
        numbers: of the sprites, as of `sprite_numbered`.
    """

    numbers: NDArray[np.int64]

    def __call__(self, index: int) -> Image.Image:
        """The image, in mode RGB."""
        return Image.fromarray(draw(sprite_numbered(int(self.numbers[index])))).convert("RGB")


def takes(spec: str) -> bool:
    """Whether it is one of these."""
    return spec.startswith(GENERATED_PREFIX)


def classes(asked: Asked) -> tuple[str, ...]:
    """Of the data set.

    Raises:
        ConfigError: there is none of that name.
    """
    return load(asked).classes


def load(asked: Asked) -> Dataset:
    """The data set; its images and splits are fixed.

    Raises:
        ConfigError: there is none of that name, or a written split is another's.
    """
    name = bare_name(asked.spec)
    if name not in LABELS:
        known = ", ".join(f"{GENERATED_PREFIX}{one}" for one in LABELS)
        raise ConfigError(f"No data set {excerpt(name)} is generated. Use one of {known}, or a folder of images.")
    drawn = np.random.default_rng(DRAWN_WITH).choice(int(np.prod(COUNTS)), sum(IMAGES.values()), replace=False)
    ends = np.cumsum(list(IMAGES.values()))[:-1]
    splits = {
        split: _split(split, numbers, LABELS[name])
        for split, numbers in zip(IMAGES, np.split(drawn.astype(np.int64), ends), strict=True)
    }
    return dataset_of(name, splits["train"].classes, splits, asked)


def _split(name: str, numbers: NDArray[np.int64], label_of: Callable[[Sprite], int]) -> Split:
    return Split(
        name=name,
        classes=tuple(f"{number:02d}" for number in range(CLASSES)),
        labels=np.array([label_of(sprite_numbered(int(number))) for number in numbers], np.int64),
        origins=tuple(f"sprite {number}" for number in numbers.tolist()),
        read=Drawn(numbers),
    )
