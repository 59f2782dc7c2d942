"""Data sets whose images are made by formula: tasks on which the features of a frozen backbone fail, without a network.

VTAB's structured tasks after dSprites: where a sprite is, and how it is turned, each in 16 classes; and how many there
are, in 8. 1,000 images to train with, of which 200 are for validation, as in VTAB.
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
from mimi_edge.images.sources.scenes import LARGEST_COUNT, count_in, draw_scene
from mimi_edge.images.sources.sprites import COUNTS, ORIENTATIONS, POSITIONS, Sprite, draw, sprite_numbered
from mimi_edge.images.splits import Dataset, Split
from mimi_edge.texts import excerpt

IMAGES: Mapping[str, int] = MappingProxyType({"train": 800, "val": 200, "test": 2_000})
CLASSES = 16
"""Of VTAB's structured tasks after dSprites."""
DRAWN_WITH = 2017
"""Seed of which images there are: every run has the same, whatever its own seed."""


@dataclass(frozen=True)
class Generated:
    """A data set made by formula, whose images have numbers.

    Attributes:
        classes: names.
        of: what an image is called, before its number.
        images: how many there are to choose from.
        draw: gives the image of a number, [H, W].
        label: gives the index of the class of a number.
    """

    classes: tuple[str, ...]
    of: str
    images: int
    draw: Callable[[int], NDArray[np.uint8]]
    label: Callable[[int], int]


def _after_dsprites(label: Callable[[Sprite], int]) -> Generated:
    """Single sprites, all combinations of their factors, of which something is asked that has 16 answers."""
    return Generated(
        classes=tuple(f"{number:02d}" for number in range(CLASSES)),
        of="sprite",
        images=int(np.prod(COUNTS)),
        draw=lambda number: draw(sprite_numbered(number)),
        label=lambda number: label(sprite_numbered(number)),
    )


SETS: Mapping[str, Generated] = MappingProxyType(
    {
        "sprites-location": _after_dsprites(lambda sprite: sprite.x * CLASSES // len(POSITIONS)),
        "sprites-orientation": _after_dsprites(lambda sprite: sprite.orientation * CLASSES // len(ORIENTATIONS)),
        "sprites-count": Generated(
            classes=tuple(str(count) for count in range(1, LARGEST_COUNT + 1)),
            of="scene",
            images=10**6,
            draw=draw_scene,
            label=lambda number: count_in(number) - 1,
        ),
    }
)
"""By name."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """Draws images by index.

    Attributes:
        one_of: gives the image of a number, [H, W].
        numbers: of the images.
    """

    one_of: Callable[[int], NDArray[np.uint8]]
    numbers: NDArray[np.int64]

    def __call__(self, index: int) -> Image.Image:
        """The image, in mode RGB."""
        return Image.fromarray(self.one_of(int(self.numbers[index]))).convert("RGB")


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
    if name not in SETS:
        known = ", ".join(f"{GENERATED_PREFIX}{one}" for one in SETS)
        raise ConfigError(f"No data set {excerpt(name)} is generated. Use one of {known}, or a folder of images.")
    made = SETS[name]
    drawn = np.random.default_rng(DRAWN_WITH).choice(made.images, sum(IMAGES.values()), replace=False)
    ends = np.cumsum(list(IMAGES.values()))[:-1]
    splits = {
        split: _split(split, numbers, made)
        for split, numbers in zip(IMAGES, np.split(drawn.astype(np.int64), ends), strict=True)
    }
    return dataset_of(name, made.classes, splits, asked)


def _split(name: str, numbers: NDArray[np.int64], made: Generated) -> Split:
    return Split(
        name=name,
        classes=made.classes,
        labels=np.array([made.label(number) for number in numbers.tolist()], np.int64),
        origins=tuple(f"{made.of} {number}" for number in numbers.tolist()),
        read=Drawn(made.draw, numbers),
    )
