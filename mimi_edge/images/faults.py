"""What keeps the images of a folder from being a data set; every fault is named, with what to do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mimi_edge.errors import ConfigError
from mimi_edge.events import Listener, Note
from mimi_edge.images.find_files import FoundImages, left_out_note, listed
from mimi_edge.images.folders import EVERYTHING, Tree
from mimi_edge.images.formats import suffixes
from mimi_edge.images.mistakes import disguised_splits, outer_folder
from mimi_edge.images.read_image import shown
from mimi_edge.images.splits import SPLITS
from mimi_edge.texts import fault_list

OPTION = "--min-images"


def require_usable(root: Path, tree: Tree, skip_bad_images: bool, listener: Listener) -> None:
    """Checks that a folder's images can be shared out or taken as they are.

    Args:
        root: the folder.
        tree: what was found in it.
        skip_bad_images: go on without folders that cannot be opened; a Note says so.
        listener: hears of them.

    Raises:
        ConfigError: they cannot; every fault is named.
    """
    faults = [*tree.faults]
    if tree.parts and not tree.faults:
        faults += _class_faults(root, tree)
    unlistable = [place for part in tree.parts.values() for found in part.values() for place in found.unlistable]
    if unlistable and skip_bad_images:
        listener(Note(f"Left out folders that cannot be opened: {listed(unlistable)}."))
    elif unlistable:
        faults.append(
            f"folders that cannot be opened: {listed(unlistable)}. Change their permissions, or go on without them: "
            "--skip-bad-images"
        )
    if faults:
        rows = fault_list(faults, None, longest=None)
        raise ConfigError(f"The data in {shown(root)} cannot be used:\n{rows}\nCorrect this and try again.")


def classes_of(tree: Tree) -> tuple[str, ...]:
    """Names of all classes of all parts, sorted."""
    return tuple(sorted({name for part in tree.parts.values() for name in part}))


def _class_faults(root: Path, tree: Tree) -> list[str]:
    if tree.of_folders and (fault := _layout_fault(root, tree)):
        return [fault]
    classes, faults = classes_of(tree), []
    if len(classes) < 2:
        only = f"one class only, {shown(classes[0])}" if classes else "no class"
        faults.append(f"there is {only}; expected two or more folders")
    if unreadable := [shown(name) for name in classes if shown(name) != name]:
        faults.append(f"names of classes that are not Unicode: {listed(unreadable)}. Rename the folders")
    for split, part in tree.parts.items():
        faults += _difference_faults(tree, split, classes)
        faults += [_empty_fault(tree, split, name, found) for name, found in part.items() if not found.images]
    return faults + list(_too_few_faults(tree))


def _layout_fault(root: Path, tree: Tree) -> str | None:
    """That the folders are no classes, which explains whatever else is wrong with them."""
    part = tree.parts.get(EVERYTHING)
    if part is None:
        source = root / tree.names["train"]
        part = tree.parts["train"]
        return outer_folder(source, *next(iter(part.items()))) if len(part) == 1 else None
    return outer_folder(root, *next(iter(part.items()))) if len(part) == 1 else disguised_splits(root, part)


def _difference_faults(tree: Tree, split: str, classes: tuple[str, ...]) -> list[str]:
    missing = [shown(name) for name in classes if name not in tree.parts[split]]
    lacks = "folder for" if tree.of_folders else "image of"
    return [f"{tree.place(split)} has no {lacks} {listed(missing)}, which other splits have"] if missing else []


def _empty_fault(tree: Tree, split: str, name: str, found: FoundImages) -> str:
    where = shown(name) if split == EVERYTHING else f"{tree.place(split)}{shown(name)}"
    fault = f"the class folder {where} holds no image ({' '.join(sorted(suffixes()))})"
    note = left_out_note(found.left_out)
    return (f"{fault}. {note}" if note else f"{fault}.") + f" To leave it out: {OPTION} 1"


def _too_few_faults(tree: Tree) -> Iterator[str]:
    shared = [split for split in SPLITS if split == "train" or split not in tree.parts]
    where = "" if tree.source == EVERYTHING else f" in {tree.place(tree.source)}"
    for name, found in tree.parts.get(tree.source, {}).items():
        if 0 < len(found.images) < len(shared):
            yield (
                f"the class {shown(name)} has {len(found.images)} image{'s' if len(found.images) > 1 else ''}{where}; "
                f"{len(shared)} are needed, one for each of {', '.join(shared)}. To leave such classes out: "
                f"{OPTION} {len(shared)}"
            )
