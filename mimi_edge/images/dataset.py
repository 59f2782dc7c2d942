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
from mimi_edge.images.decoding import DecodedSplit, decode_dataset, decode_split
from mimi_edge.images.finding import FoundImages, left_out_note, listed
from mimi_edge.images.folders import EVERYTHING, Part, Tree, find_images, images_of
from mimi_edge.images.formats import suffixes
from mimi_edge.images.reading import read_rgb, shown
from mimi_edge.images.splits import SPLITS, Dataset, Split, shared_out
from mimi_edge.images.written import Assignment, split_document, written_assignment, written_classes

__all__ = [
    "Dataset",
    "DecodedSplit",
    "Split",
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
    listener: Listener = silent,
    split: Mapping[str, Any] | None = None,
) -> Dataset:
    """Finds the images of a dataset and their splits; no image is decoded yet.

    A folder has one folder of images per class, or such folders inside train/, val/ (also valid/ or validation/) and
    test/. Splits that are given are kept. Those that are not are taken from the rest, 15 percent of each class for
    each of val and test. That sharing out depends on the seed and the images' paths inside the folder only.

    Args:
        spec: `builtin:digits`, `builtin:fashion`, or a folder.
        seed: of the sharing out.
        skip_bad_images: go on without folders that cannot be opened and without images of a written split that are
            gone; a Note says so.
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
    images = images_of(tree)
    if split is None:
        classes = tuple(sorted({name for part in tree.parts.values() for name in part}))
        _require_usable(root, tree, classes, skip_bad_images, listener)
        assignment = _assignment(tree, seed, listener)
    else:
        assignment = written_assignment(split, images, skip_missing=skip_bad_images, listener=listener)
        classes, seed = written_classes(split), int(split.get("seed", seed))
        _require_filled(assignment, classes)
    splits = {name: _file_split(name, classes, entries, images) for name, entries in assignment.items()}
    return Dataset(shown(root.name), classes, MappingProxyType(splits), seed)


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
    source = "train" if "train" in tree.parts else EVERYTHING
    missing = [split for split in SPLITS[1:] if split not in tree.parts]
    if missing:
        listener(Note(_sharing_note(missing, source, seed)))
    assignment: Assignment = {split: _entries(tree.parts.get(split, {})) for split in SPLITS[1:]}
    assignment = {"train": []} | assignment
    shares = {"train": 1 - HELD_OUT_SHARE * len(missing)} | dict.fromkeys(missing, HELD_OUT_SHARE)
    for label, found in tree.parts[source].items():
        for split, origins in shared_out(list(found.images), shares, seed).items():
            assignment[split] += [(origin, label) for origin in origins]
    return assignment


def _entries(part: Part) -> list[tuple[str, str]]:
    return [(origin, label) for label, found in part.items() for origin in found.images]


def _sharing_note(missing: list[str], source: str, seed: int) -> str:
    origin = "the images" if source == EVERYTHING else "train/"
    return (
        f"No {' and no '.join(missing)} split is given: {HELD_OUT_SHARE:.0%} of {origin} of each class "
        f"{'is' if len(missing) == 1 else 'are'} taken for {'it' if len(missing) == 1 else 'each'} (seed {seed})."
    )


def _require_usable(
    root: Path, tree: Tree, classes: tuple[str, ...], skip_bad_images: bool, listener: Listener
) -> None:
    unlistable = [place for part in tree.parts.values() for found in part.values() for place in found.unlistable]
    faults = [*tree.faults]
    if tree.parts and not tree.faults:
        faults += _class_faults(tree, classes)
    if unlistable and skip_bad_images:
        listener(Note(f"Left out folders that cannot be opened: {listed(unlistable)}."))
    elif unlistable:
        faults.append(
            f"folders that cannot be opened: {listed(unlistable)}. Change their permissions, or go on without them: "
            "--skip-bad-images"
        )
    if faults:
        rows = "\n".join(f"  - {fault}" for fault in faults)
        raise ConfigError(f"The data in {shown(root)} cannot be used:\n{rows}\nCorrect this and try again.")


def _class_faults(tree: Tree, classes: tuple[str, ...]) -> list[str]:
    faults = []
    if len(classes) < 2:
        faults.append(f"there is one class only, {shown(classes[0])}; expected two or more folders")
    if unreadable := [shown(name) for name in classes if shown(name) != name]:
        faults.append(f"names of classes that are not Unicode: {listed(unreadable)}. Rename the folders")
    for split, part in tree.parts.items():
        faults += _difference_faults(split, part, classes)
        faults += [_empty_fault(split, name, found) for name, found in part.items() if not found.images]
    return faults + _too_few_faults(tree)


def _difference_faults(split: str, part: Part, classes: tuple[str, ...]) -> list[str]:
    missing = [shown(name) for name in classes if name not in part]
    return [f"{split}/ has no folder for {listed(missing)}, which other splits have"] if missing else []


def _empty_fault(split: str, name: str, found: FoundImages) -> str:
    where = shown(name) if split == EVERYTHING else f"{split}/{shown(name)}"
    fault = f"the class folder {where} holds no image ({' '.join(sorted(suffixes()))})"
    note = left_out_note(found.left_out)
    return f"{fault}. {note}" if note else fault


def _too_few_faults(tree: Tree) -> list[str]:
    source = "train" if "train" in tree.parts else EVERYTHING
    shared = [split for split in SPLITS if split == "train" or split not in tree.parts]
    where = "" if source == EVERYTHING else " in train/"
    return [
        f"the class {shown(name)} has {len(found.images)} image{'s' if len(found.images) > 1 else ''}{where}; "
        f"{len(shared)} are needed, one for each of {', '.join(shared)}"
        for name, found in tree.parts.get(source, {}).items()
        if 0 < len(found.images) < len(shared)
    ]


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
