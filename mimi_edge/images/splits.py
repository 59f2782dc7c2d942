"""Datasets, their splits, and how images are shared out among splits."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image

SPLITS = ("train", "val", "test")
Labels = NDArray[np.int64]
HELD_OUT_SHARE = 0.15
"""Of the images of each class, for each of val and test where the data does not bring its own."""
UNEVEN = 5
"""Times that the largest class has the images of the smallest, from where a sentence says so."""


@dataclass(frozen=True, eq=False)
class Split:
    """n images with their classes.

    Attributes:
        name: `train`, `val` or `test`.
        classes: names of the dataset's classes.
        labels: [n] indices into the classes.
        origins: where each image is from, as messages and the written split call it: the path inside the folder.
        read: gives one image by its index, in mode RGB; raises UnusableImageError.
    """

    name: str
    classes: tuple[str, ...]
    labels: Labels
    origins: tuple[str, ...]
    read: Callable[[int], Image]

    def __len__(self) -> int:
        return len(self.origins)

    def image(self, index: int) -> Image:
        """One image, in mode RGB and of any size.

        Raises:
            UnusableImageError: a ConfigError that names the file.
        """
        return self.read(index)

    def origin(self, index: int) -> str:
        """Where one image is from."""
        return self.origins[index]

    def imbalance(self) -> str | None:
        """A sentence where the classes are far apart in size."""
        counts = np.bincount(self.labels, minlength=len(self.classes))
        least, most = int(counts.argmin()), int(counts.argmax())
        if counts[most] < UNEVEN * counts[least]:
            return None
        return (
            f"Classes are far apart in size: {self.classes[most]} has {counts[most]:,} {self.name} images, "
            f"{self.classes[least]} {counts[least]:,}. Look at balanced accuracy and at the recall of each class."
        )

    def some(self, count: int) -> Split:
        """So many of its images, spread evenly over the split; all where there are fewer."""
        return self.taken(spread(len(self), count).tolist())

    def taken(self, indices: Sequence[int]) -> Split:
        """Those of its images."""
        return self._of([(self, index) for index in indices])

    def with_those_of(self, other: Split) -> Split:
        """Its images, and those of another split behind them."""
        return self._of([(part, index) for part in (self, other) for index in range(len(part))])

    def _of(self, places: Sequence[tuple[Split, int]]) -> Split:
        return replace(
            self,
            labels=np.array([part.labels[index] for part, index in places], np.int64),
            origins=tuple(part.origins[index] for part, index in places),
            read=ImagesOf(tuple(places)),
        )


@dataclass(frozen=True, eq=False)
class ImagesOf:
    """Reads images of other splits, by index.

    Attributes:
        places: the split of each, and its index there.
    """

    places: tuple[tuple[Split, int], ...]

    def __call__(self, index: int) -> Image:
        """The image, in mode RGB."""
        part, at = self.places[index]
        return part.image(at)

    @property
    def paths(self) -> tuple[Path, ...]:
        """Of the files they are in, where they are in files."""
        found = ((getattr(part.read, "paths", ()), at) for part, at in self.places)
        return tuple(paths[at] for paths, at in found if paths)


def spread(count: int, most: int) -> NDArray[np.int64]:
    """Positions of at most so many of `count` images, evenly over all of them."""
    return np.linspace(0, count - 1, min(most, count)).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images of two or more classes in three splits.

    Attributes:
        name: of the folder, or of the built-in data.
        classes: names, sorted; labels are indices into them.
        splits: `train`, `val` and `test`.
        seed: with which images were shared out, where they were.
        left_out: how many images each class has that was left out for having too few.
    """

    name: str
    classes: tuple[str, ...]
    splits: Mapping[str, Split]
    seed: int = 0
    left_out: Mapping[str, int] = field(default_factory=dict)


def held_out_shares(missing: Sequence[str]) -> dict[str, float]:
    """What train keeps and each split that the data does not bring is given, adding up to 1; as of `shared_out`."""
    return {"train": 1 - HELD_OUT_SHARE * len(missing)} | dict.fromkeys(missing, HELD_OUT_SHARE)


def sharing_note(missing: Sequence[str], origin: str, seed: int) -> str:
    """That splits the data does not bring are taken from images it has."""
    return (
        f"No {' and no '.join(missing)} split is given: {HELD_OUT_SHARE:.0%} of {origin} of each class "
        f"{'is' if len(missing) == 1 else 'are'} taken for {'it' if len(missing) == 1 else 'each'} (seed {seed})."
    )


def shared_out(keys: Sequence[str], shares: Mapping[str, float], seed: int) -> dict[str, list[str]]:
    """Shares the images of one class out among splits, in an order that depends on nothing but the seed.

    The order is that of hashes, so it is the same on every machine, and an image added later moves few others.

    Args:
        keys: of the images, all different, at least as many as there are splits.
        shares: of each split, adding up to 1; the first split gets what rounding leaves over.
        seed: another one gives another order.

    Returns:
        The keys of each split, sorted; at least one each.

    Raises:
        ValueError: there are fewer keys than splits.
    """
    if len(keys) < len(shares):
        raise ValueError(f"{len(keys)} images cannot fill {len(shares)} splits")
    rest = sorted(keys, key=lambda key: hashlib.sha256(f"{seed}/{key}".encode()).digest())
    first, *others = shares
    parts = {}
    for split in others:
        count = max(1, round(len(keys) * shares[split]))
        parts[split], rest = sorted(rest[:count]), rest[count:]
    return {first: sorted(rest)} | parts
