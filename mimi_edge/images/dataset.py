"""Loads a dataset: built in, or from a folder of images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mimi_edge.builtin import DATA_PREFIX
from mimi_edge.builtin.data import CLASSES, load_builtin
from mimi_edge.errors import ConfigError
from mimi_edge.events import Listener, Note, silent
from mimi_edge.images.decode import LabelledImages, copies_in, decode_dataset, decode_split
from mimi_edge.images.faults import classes_of, require_usable
from mimi_edge.images.find_files import listed
from mimi_edge.images.folders import EVERYTHING, Part, Tree, find_images, images_of, without_classes
from mimi_edge.images.read_image import read_rgb, shown
from mimi_edge.images.splits import SPLITS, Dataset, Split, shared_out
from mimi_edge.images.written import Assignment, split_document, written_assignment, written_split

__all__ = [
    "Dataset",
    "LabelledImages",
    "Split",
    "copies_in",
    "decode_dataset",
    "decode_split",
    "load_dataset",
    "split_document",
]

HELD_OUT_SHARE = 0.15
"""Of the images of each class, for each of val and test where the data does not bring its own."""


@dataclass(frozen=True)
class FileImages:
    """Reads images from files, by index."""

    paths: tuple[Path, ...]

    def __call__(self, index: int) -> Image.Image:
        """The image, in mode RGB."""
        return read_rgb(self.paths[index])


@dataclass(frozen=True, eq=False)
class ArrayImages:
    """Reads images from an array [n, H, W] of grayscale values, by index."""

    images: NDArray[np.uint8]

    def __call__(self, index: int) -> Image.Image:
        """The image, in mode RGB."""
        return Image.fromarray(self.images[index]).convert("RGB")


def load_dataset(
    spec: str | Path,
    *,
    seed: int,
    skip_bad_images: bool = False,
    min_images: int = 0,
    listener: Listener = silent,
    split: Mapping[str, Any] | None = None,
) -> Dataset:
    """Finds the images of a dataset and their splits; no image is decoded yet.

    A folder has one folder of images per class, or such folders inside train/, val/ and test/, which may have the
    other names in `SPLIT_NAMES`. Splits that are given are kept. Those that are not are taken from the rest, 15 percent
    of each class for each of val and test. That sharing out depends on the seed and the images' paths inside the folder
    only.

    Args:
        spec: `builtin:digits`, `builtin:fashion`, or a folder.
        seed: of the sharing out.
        skip_bad_images: go on without folders that cannot be opened and without images of a written split that are
            gone; a Note says so.
        min_images: leave out classes that have fewer, in train/ where the data brings its splits; a Note says so. A
            written split has left them out already.
        listener: hears in Notes how the folder was understood.
        split: a written split, as `split_document` made it, to use again instead of sharing out.

    Raises:
        ConfigError: the data cannot be used; every fault that was found is named.
    """
    if isinstance(spec, str) and spec.startswith(DATA_PREFIX):
        return _builtin(spec.removeprefix(DATA_PREFIX), split)
    root = Path(spec).expanduser().absolute()
    tree = find_images(root)
    for remark in tree.remarks:
        listener(Note(remark))
    if split is None:
        tree, left_out = _of_large_classes(tree, min_images, listener)
        require_usable(root, tree, skip_bad_images, listener)
        classes, assignment = classes_of(tree), _assignment(tree, seed, listener)
    else:
        written = written_split(split)
        left_out, classes, seed = dict(written.left_out), written.classes, written.seed
        images = images_of(without_classes(tree, left_out))
        assignment = written_assignment(written, images, skip_missing=skip_bad_images, listener=listener)
        _require_filled(assignment, classes)
    images = images_of(tree)
    splits = {name: _file_split(name, classes, entries, images) for name, entries in assignment.items()}
    if note := splits["train"].imbalance():
        listener(Note(note))
    return Dataset(shown(root.name), classes, MappingProxyType(splits), seed, left_out)


def _of_large_classes(tree: Tree, min_images: int, listener: Listener) -> tuple[Tree, dict[str, int]]:
    """A tree without classes that have too few images, and how many those have."""
    source = tree.parts.get(tree.source, {})
    counts = {name: len(source[name].images) if name in source else 0 for name in classes_of(tree)}
    small = {name: count for name, count in counts.items() if count < min_images}
    if small:
        where = "" if tree.source == EVERYTHING else f" in {tree.place(tree.source)}"
        named = listed([f"{shown(name)} ({count})" for name, count in small.items()])
        listener(Note(f"Left out {_classes(len(small))} with fewer than {min_images} images{where}: {named}."))
    return without_classes(tree, small), small


def _classes(count: int) -> str:
    return "1 class" if count == 1 else f"{count} classes"


def _builtin(name: str, written: Mapping[str, Any] | None) -> Dataset:
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
    dataset = Dataset(name, classes, MappingProxyType(splits))
    if written is not None and written != split_document(dataset):
        raise ConfigError(
            f"The written split is not that of {DATA_PREFIX}{name}, whose splits are fixed. "
            "Name the data that the split was made of, or start a new run."
        )
    return dataset


def _file_split(
    name: str, classes: tuple[str, ...], entries: Iterable[tuple[str, str]], images: Mapping[str, Path]
) -> Split:
    ordered = sorted(entries)
    index = {label: position for position, label in enumerate(classes)}
    return Split(
        name=name,
        classes=classes,
        labels=np.array([index[label] for _, label in ordered], np.int64),
        origins=tuple(origin for origin, _ in ordered),
        read=FileImages(tuple(images[origin] for origin, _ in ordered)),
    )


def _assignment(tree: Tree, seed: int, listener: Listener) -> Assignment:
    """Which image is in which split: those that are given are kept, the others taken from the first part."""
    missing = [split for split in SPLITS[1:] if split not in tree.parts]
    if missing:
        listener(Note(_sharing_note(missing, tree, seed)))
    assignment: Assignment = {split: _entries(tree.parts.get(split, {})) for split in SPLITS[1:]}
    assignment = {"train": []} | assignment
    shares = {"train": 1 - HELD_OUT_SHARE * len(missing)} | dict.fromkeys(missing, HELD_OUT_SHARE)
    for label, found in tree.parts[tree.source].items():
        for split, origins in shared_out(list(found.images), shares, seed).items():
            assignment[split] += [(origin, label) for origin in origins]
    return assignment


def _entries(part: Part) -> list[tuple[str, str]]:
    return [(origin, label) for label, found in part.items() for origin in found.images]


def _sharing_note(missing: list[str], tree: Tree, seed: int) -> str:
    origin = "the images" if tree.source == EVERYTHING else tree.place(tree.source)
    return (
        f"No {' and no '.join(missing)} split is given: {HELD_OUT_SHARE:.0%} of {origin} of each class "
        f"{'is' if len(missing) == 1 else 'are'} taken for {'it' if len(missing) == 1 else 'each'} (seed {seed})."
    )


def _require_filled(assignment: Assignment, classes: tuple[str, ...]) -> None:
    """Checks that images that are gone leave some of each class in each split."""
    faults = [
        f"  - {split} has no image left of {listed(missing)}"
        for split, entries in assignment.items()
        if (missing := sorted(set(classes) - {label for _, label in entries}))
    ]
    if faults:
        rows = "\n".join(faults)
        raise ConfigError(f"Too little is left of the written split:\n{rows}\nPut the images back, or start a new run.")
