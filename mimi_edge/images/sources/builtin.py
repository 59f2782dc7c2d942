"""The small data sets that ship with the package."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mimi_edge.builtin import DATA_PREFIX
from mimi_edge.builtin.data import CLASSES, load_builtin
from mimi_edge.images.sources.asked import Asked
from mimi_edge.images.sources.divided import dataset_of
from mimi_edge.images.sources.names import bare_name
from mimi_edge.images.splits import Dataset, Split


@dataclass(frozen=True, eq=False)
class ArrayImages:
    """Reads images from an array [n, H, W] of grayscale values, by index."""

    images: NDArray[np.uint8]

    def __call__(self, index: int) -> Image.Image:
        """The image, in mode RGB."""
        return Image.fromarray(self.images[index]).convert("RGB")


def takes(spec: str) -> bool:
    """Whether it is one of these."""
    return spec.startswith(DATA_PREFIX)


def classes(asked: Asked) -> tuple[str, ...]:
    """Of the data set.

    Raises:
        ConfigError: there is none of that name.
    """
    return load(asked).classes


def load(asked: Asked) -> Dataset:
    """The data set; its splits are fixed.

    Raises:
        ConfigError: there is none of that name, or a written split is another's.
    """
    name = bare_name(asked.spec)
    arrays, classes = load_builtin(name), CLASSES.get(name, ())
    splits = {
        split: Split(
            name=split,
            classes=classes,
            labels=part.labels,
            origins=tuple(f"{split}/{index}" for index in range(len(part.labels))),
            read=ArrayImages(part.images),
        )
        for split, part in arrays.items()
    }
    return dataset_of(name, classes, splits, asked)
