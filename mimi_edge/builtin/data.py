"""The two small data sets that ship with the package, each with its licence beside it."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from mimi_edge.errors import ConfigError

SPLITS = ("train", "val", "test")
CLASSES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "digits": tuple("0123456789"),
        "fashion": (
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
    }
)
"""Classes of each built-in data set, in the order of its labels."""
LARGEST = MappingProxyType({"digits": 16, "fashion": 255})
"""The value of a wholly white pixel."""


@dataclass(frozen=True, eq=False)
class BuiltinSplit:
    """Images [n, H, W], grayscale in 0..255, and labels [n], indices into the classes."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


def load_builtin(name: str) -> dict[str, BuiltinSplit]:
    """The splits `train`, `val` and `test` of a built-in data set.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in CLASSES:
        known = ", ".join(f"builtin:{known}" for known in CLASSES)
        raise ConfigError(f"There is no built-in data set {name!r}. Use one of {known}, or a folder of images.")
    content = resources.files("mimi_edge.builtin").joinpath(f"{name}.npz").read_bytes()
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return {
            split: BuiltinSplit(
                images=_stretched(arrays[f"{split}_images"], LARGEST[name]),
                labels=arrays[f"{split}_labels"].astype(np.int64),
            )
            for split in SPLITS
        }


def _stretched(images: NDArray[np.uint8], largest: int) -> NDArray[np.uint8]:
    """Values 0..largest made 0..255, rounded."""
    return ((images.astype(np.uint32) * 255 + largest // 2) // largest).astype(np.uint8)
