"""A folder with a folder of images per class, with or without folders of splits above them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from PIL import Image

from mimi_edge.errors import ConfigError
from mimi_edge.events import Listener, Note
from mimi_edge.images.faults import classes_of, require_usable
from mimi_edge.images.find_files import listed
from mimi_edge.images.folders import EVERYTHING, Part, Tree, find_images, images_of, without_classes
from mimi_edge.images.read_image import read_rgb, shown
from mimi_edge.images.sources.asked import Asked
from mimi_edge.images.splits import SPLITS, Dataset, Split, held_out_shares, shared_out, sharing_note
from mimi_edge.images.written import Assignment, written_assignment, written_split


@dataclass(frozen=True)
class FileImages:
    """Reads images from files, by index."""

    paths: tuple[Path, ...]

    def __call__(self, index: int) -> Image.Image:
        """The image, in mode RGB."""
        return read_rgb(self.paths[index])


def takes(_: str) -> bool:
    """Whatever nothing else takes is a path."""
    return True


def load(asked: Asked) -> Dataset:
    """Finds the images of a folder and their splits.

    Raises:
        ConfigError: the data cannot be used; every fault that was found is named.
    """
    root = Path(asked.spec).expanduser().absolute()
    tree = find_images(root)
    for remark in tree.remarks:
        asked.listener(Note(remark))
    return dataset_of(tree, root, asked)


def classes(asked: Asked) -> tuple[str, ...]:
    """Of all folders of classes.

    Raises:
        ConfigError: the folder cannot be used.
    """
    return classes_of(find_images(Path(asked.spec).expanduser().absolute()))


def dataset_of(tree: Tree, root: Path, asked: Asked) -> Dataset:
    """The data set of what was found at a path, its images shared out where no split is given.

    Raises:
        ConfigError: the images cannot be used; every fault that was found is named.
    """
    listener, seed = asked.listener, asked.seed
    if asked.split is None:
        tree, left_out = _of_large_classes(tree, asked.min_images, listener)
        require_usable(root, tree, asked.skip_bad_images, listener)
        names, assignment = classes_of(tree), _assignment(tree, seed, listener)
    else:
        written = written_split(asked.split)
        left_out, names, seed = dict(written.left_out), written.classes, written.seed
        images = images_of(without_classes(tree, left_out))
        assignment = written_assignment(
            written, images, skip_missing=asked.skip_bad_images, listener=listener, tells_new=not asked.limits
        )
        _require_filled(assignment, names)
    images = images_of(tree)
    splits = {name: _file_split(name, names, entries, images) for name, entries in assignment.items()}
    if note := splits["train"].imbalance():
        listener(Note(note))
    return Dataset(shown(root.name), names, MappingProxyType(splits), seed, left_out)


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
        taken_from = "the images" if tree.source == EVERYTHING else tree.place(tree.source)
        listener(Note(sharing_note(missing, taken_from, seed)))
    assignment: Assignment = {split: _entries(tree.parts.get(split, {})) for split in SPLITS[1:]}
    assignment = {"train": []} | assignment
    for label, found in tree.parts[tree.source].items():
        for split, origins in shared_out(list(found.images), held_out_shares(missing), seed).items():
            assignment[split] += [(origin, label) for origin in origins]
    return assignment


def _entries(part: Part) -> list[tuple[str, str]]:
    return [(origin, label) for label, found in part.items() for origin in found.images]


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
