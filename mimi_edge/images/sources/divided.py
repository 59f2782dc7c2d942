"""Data that comes with splits of its own: those that are missing are taken from train, written ones are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from mimi_edge.errors import ConfigError
from mimi_edge.events import Note
from mimi_edge.images.find_files import listed
from mimi_edge.images.read_image import shown
from mimi_edge.images.sources.asked import Asked
from mimi_edge.images.splits import SPLITS, Dataset, ImagesOf, Split, held_out_shares, shared_out, sharing_note
from mimi_edge.images.written import Assignment, written_assignment, written_split

Place = tuple[Split, int]
"""Where an image is: the split it came with, and its index in it."""


def dataset_of(name: str, classes: Sequence[str], given: Mapping[str, Split], asked: Asked) -> Dataset:
    """The data set of images that came in splits.

    Args:
        name: of the data.
        classes: in the order of the labels.
        given: images by split, train at least; val and test are taken from train where they are not there.
        asked: how to understand it.

    Raises:
        ConfigError: a written split is another's, or images of a class are too few to share out.
    """
    places = {origin: (part, index) for part in given.values() for index, origin in enumerate(part.origins)}
    if asked.split is None:
        kept, left_out = _large_classes(classes, given, asked)
        assignment, seed = _assignment(kept, given, asked), asked.seed if len(given) < len(SPLITS) else 0
    else:
        written = written_split(asked.split)
        kept, left_out, seed = written.classes, dict(written.left_out), written.seed
        _require_its_own(asked.spec, written.splits, kept, places)
        assignment = written_assignment(
            written, places, skip_missing=False, listener=asked.listener, tells_new=not asked.limits
        )
    splits = {split: _split(split, kept, entries, places) for split, entries in assignment.items()}
    if note := splits["train"].imbalance():
        asked.listener(Note(note))
    return Dataset(name, tuple(kept), MappingProxyType(splits), seed, left_out)


def _large_classes(
    classes: Sequence[str], given: Mapping[str, Split], asked: Asked
) -> tuple[tuple[str, ...], dict[str, int]]:
    """Classes with enough images to train with, and how many the others have."""
    counts = np.bincount(given["train"].labels, minlength=len(classes)).tolist()
    small = {one: count for one, count in zip(classes, counts, strict=True) if count < asked.min_images}
    if small:
        named = listed([f"{shown(one)} ({count})" for one, count in small.items()])
        asked.listener(Note(f"Left out {len(small)} classes with fewer than {asked.min_images} images: {named}."))
    kept = tuple(one for one in classes if one not in small)
    if len(kept) < 2:
        raise ConfigError(
            f"{asked.spec} has fewer than two classes with {asked.min_images} images. Lower --min-images."
        )
    return kept, small


def _assignment(classes: Sequence[str], given: Mapping[str, Split], asked: Asked) -> Assignment:
    known = set(classes)
    assignment = {split: _entries(given[split], known) if split in given else [] for split in SPLITS}
    missing = [split for split in SPLITS if split not in given]
    if not missing:
        return assignment
    asked.listener(Note(sharing_note(missing, f"the train images of {asked.spec}", asked.seed)))
    by_class: dict[str, list[str]] = {label: [] for label in classes}
    for origin, label in assignment.pop("train"):
        by_class[label].append(origin)
    shared: Assignment = {"train": []} | assignment
    for label, origins in by_class.items():
        if len(origins) <= len(missing):
            raise ConfigError(
                f"{asked.spec} has {len(origins)} train images of {shown(label)}, too few to take "
                f"{' and '.join(missing)} from them. Leave such classes out: --min-images {len(missing) + 1}"
            )
        for split, taken in shared_out(origins, held_out_shares(missing), asked.seed).items():
            shared[split] += [(origin, label) for origin in taken]
    return shared


def _entries(part: Split, known: set[str]) -> list[tuple[str, str]]:
    named = zip(part.origins, (part.classes[label] for label in part.labels.tolist()), strict=True)
    return [(origin, label) for origin, label in named if label in known]


def _require_its_own(
    spec: str,
    written: Mapping[str, Sequence[tuple[str, str]]],
    classes: Sequence[str],
    places: Mapping[str, Place],
) -> None:
    """Checks that a written split is of this data.

    Raises:
        ConfigError: it is another's.
    """
    entries = [entry for part in written.values() for entry in part]
    labels = {origin: part.classes[part.labels[index]] for origin, (part, index) in places.items()}
    if any(labels.get(origin) != label for origin, label in entries) or not set(classes) <= set(labels.values()):
        raise ConfigError(
            f"The written split is not that of {spec}. Name the data that the split was made of, or start a new run."
        )


def _split(name: str, classes: Sequence[str], entries: Sequence[tuple[str, str]], places: Mapping[str, Place]) -> Split:
    index = {label: position for position, label in enumerate(classes)}
    return Split(
        name=name,
        classes=tuple(classes),
        labels=np.array([index[label] for _, label in entries], np.int64),
        origins=tuple(origin for origin, _ in entries),
        read=ImagesOf(tuple(places[origin] for origin, _ in entries)),
    )
