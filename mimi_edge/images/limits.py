"""Fewer images than the data has: so many to train with, and so many for validation."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from mimi_edge.errors import ConfigError
from mimi_edge.events import Listener, Note
from mimi_edge.images.splits import Dataset, Split


def limited(dataset: Dataset, limits: Mapping[str, int], listener: Listener) -> Dataset:
    """The same data with at most so many images in some splits, each class with its share, and with one at least.

    Which they are depends on the dataset's seed and their origins alone.

    Args:
        dataset: found, not decoded.
        limits: of some splits.
        listener: hears how many are used.

    Raises:
        ConfigError: a limit has no room for an image of each class.
    """
    return replace(
        dataset,
        splits={
            name: _limited(split, limits.get(name), dataset.seed, listener) for name, split in dataset.splits.items()
        },
    )


def learning_from_val(dataset: Dataset) -> Dataset:
    """The same data where the images to train with are those for validation, too."""
    train, val = dataset.splits["train"], dataset.splits["val"]
    return replace(dataset, splits={**dataset.splits, "train": train.with_those_of(val)})


def _limited(split: Split, limit: int | None, seed: int, listener: Listener) -> Split:
    if limit is None or limit >= len(split):
        return split
    classes = len(np.unique(split.labels))
    if limit < classes:
        raise ConfigError(
            f"--{split.name}-images {limit} has no room for an image of each of the {classes} classes. Give {classes} "
            "or more."
        )
    listener(Note(f"{limit:,} of {len(split):,} {split.name} images are used (--{split.name}-images)."))
    return split.taken(sorted(_in_turns(split, seed)[:limit]))


def _in_turns(split: Split, seed: int) -> list[int]:
    """All indices: one of each class, then the others such that every class keeps its share wherever one stops."""
    mixed = sorted(
        range(len(split)),
        key=lambda index: hashlib.sha256(f"{seed}/{split.name}/{split.origins[index]}".encode()).digest(),
    )
    counts, seen = np.bincount(split.labels), np.zeros(len(split.classes), np.int64)
    places = {}
    for index in mixed:
        label = split.labels[index]
        places[index] = seen[label] and (seen[label] + 0.5) / counts[label]
        seen[label] += 1
    return sorted(mixed, key=lambda index: places[index])
