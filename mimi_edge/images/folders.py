"""Finds images in a folder per class, with or without folders for the splits above them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mimi_edge.errors import ConfigError
from mimi_edge.images.reading import SUFFIXES, shown

EVERYTHING = "all"
"""Name of the only part of a folder that is not divided into splits."""
SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""What folders of splits are called, in lower case, and which split each holds."""
IGNORED_FOLDERS = frozenset({"__MACOSX", "@eaDir"})
IGNORED_FILES = frozenset({"thumbs.db", "desktop.ini"})
LAYOUT_HELP = (
    "Expected a folder with one folder of images per class (data/cat/1.jpg, data/dog/2.jpg), "
    "or such folders inside train/, val/ and test/."
)


@dataclass(frozen=True)
class ClassFolder:
    """What was found for one class in one part of the data.

    Attributes:
        images: paths by origin, which is the path inside the data folder, with slashes; sorted by origin.
        other_suffixes: how many files there were of endings that are not an image's.
        unlistable: origins of folders that cannot be opened.
        links: origins of linked folders, which are not followed since they may lead in circles.
    """

    images: Mapping[str, Path]
    other_suffixes: Mapping[str, int]
    unlistable: tuple[str, ...]
    links: tuple[str, ...]


Part = Mapping[str, ClassFolder]
"""Class folders by the name of the class, sorted."""


@dataclass(frozen=True)
class Tree:
    """Everything found in a data folder.

    Attributes:
        parts: by split; only EVERYTHING where the folder is not divided into splits.
        remarks: sentences on how the folder was understood, where that is not plain.
        faults: what makes it unusable.
    """

    parts: Mapping[str, Part]
    remarks: tuple[str, ...]
    faults: tuple[str, ...]


def find_images(root: Path) -> Tree:
    """Lists the images of a folder, in an order that does not depend on the file system.

    Raises:
        ConfigError: the folder is missing, is not a folder, cannot be opened, or holds no class folders.
    """
    root = root.absolute()
    folders = _root_folders(root)
    splits, faults = _split_folders(root, folders)
    if not splits and not faults:
        tree = _undivided(root, folders)
    else:
        parts = {split: _part(root, folder) for split, folder in splits.items()}
        faults += [fault for folder in splits.values() for fault in _split_folder_faults(root, folder)]
        others = [folder for folder in folders if folder.name.lower() not in SPLIT_NAMES]
        remarks = [f"Beside the splits, {shown(root)} has {_row(others)}: left out."] if others else []
        tree = Tree(parts, tuple(remarks), tuple(faults))
    return Tree(tree.parts, tree.remarks + tuple(_link_remarks(tree)), tree.faults)


def images_of(tree: Tree) -> dict[str, Path]:
    """All images of a tree by origin."""
    return {
        origin: path for part in tree.parts.values() for found in part.values() for origin, path in found.images.items()
    }


def listed(names: Sequence[str], most: int = 10) -> str:
    """Names in a row, the first ten of them where there are many."""
    row = ", ".join(names[:most])
    return row if len(names) <= most else f"{row} and {len(names) - most} more"


def _root_folders(root: Path) -> list[Path]:
    if not root.exists():
        raise ConfigError(f"The data folder {shown(root)} does not exist. Check the path.")
    if not root.is_dir():
        raise ConfigError(f"{shown(root)} is a file, not a folder. {LAYOUT_HELP} Unpack an archive first.")
    try:
        folders = _visible_folders(root)
    except OSError as error:
        raise ConfigError(f"The data folder {shown(root)} cannot be opened: {error.strerror}.") from error
    if not folders:
        raise ConfigError(f"{shown(root)} holds no folders, so there are no classes. {LAYOUT_HELP}")
    return folders


def _visible_folders(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if _is_visible(entry.name) and entry.is_dir()]
    return [folder / name for name in sorted(names)]


def _is_visible(folder_name: str) -> bool:
    return not folder_name.startswith(".") and folder_name not in IGNORED_FOLDERS


def _split_folders(root: Path, folders: Sequence[Path]) -> tuple[dict[str, Path], list[str]]:
    """Which folder holds which split, nothing if the folders are classes; and what is wrong with them."""
    named = [folder for folder in folders if folder.name.lower() in SPLIT_NAMES]
    others = [folder for folder in folders if folder not in named]
    trains = [folder for folder in named if _split_of(folder) == "train"]
    if not named or not all(_holds_classes(folder) for folder in trains):
        return {}, _flat_split_faults(root, named, others)
    if others and (not trains or (trains == named and any(_holds_any_image(folder) for folder in others))):
        return {}, []
    faults = _repeated_split_faults(named)
    if not trains:
        faults.append("there is no train/ beside " + _row(named))
    return {_split_of(folder): folder for folder in named}, faults


def _repeated_split_faults(named: Sequence[Path]) -> list[str]:
    holders = {split: [folder for folder in named if _split_of(folder) == split] for split in SPLIT_NAMES.values()}
    return [
        f"{_row(folders)} all hold the {split} split. Keep one"
        for split, folders in holders.items()
        if len(folders) > 1
    ]


def _row(folders: Sequence[Path]) -> str:
    return listed([shown(folder.name) + "/" for folder in folders])


def _split_of(folder: Path) -> str:
    return SPLIT_NAMES[folder.name.lower()]


def _flat_split_faults(root: Path, named: Sequence[Path], others: Sequence[Path]) -> list[str]:
    """What to say where train/ has no class folders: beside other classes it is a class, by itself it is a mistake."""
    if not named or others:
        return []
    fault = (
        f"{shown(root)} holds {_row(named)} only, and train/ has no folders for the classes, so they are not known. "
        "Put the images into one folder per class (train/cat/1.jpg). If these are your classes, rename the folders"
    )
    return [fault]


def _holds_classes(folder: Path) -> bool:
    """Whether a folder has folders and no images of its own, as far as can be seen."""
    try:
        return bool(_visible_folders(folder)) and not _loose_images(folder)
    except OSError:
        return True


def _holds_any_image(folder: Path) -> bool:
    return any(_is_image(name) for _, subfolders, names in os.walk(folder) if _prune(subfolders) for name in names)


def _prune(subfolders: list[str]) -> bool:
    """Keeps a walk out of hidden folders, in the order of names; always true, so that it fits a condition."""
    subfolders[:] = sorted(name for name in subfolders if _is_visible(name))
    return True


def _loose_images(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if _is_image(entry.name) and not entry.is_dir())


def _is_image(name: str) -> bool:
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES  # noqa: PTH122  far faster


def _undivided(root: Path, folders: Sequence[Path]) -> Tree:
    remarks = []
    if loose := _loose_images(root):
        remarks.append(
            f"{len(loose)} images lie directly in {shown(root)}, outside the class folders: left out. "
            f"The first is {shown(loose[0])}."
        )
    if named := [folder for folder in folders if folder.name.lower() in SPLIT_NAMES]:
        remarks.append(
            f"Since {shown(root)} has other class folders, {_row(named)} is read as a class, not as a split."
        )
    return Tree({EVERYTHING: _part(root, root)}, tuple(remarks), ())


def _part(root: Path, folder: Path) -> Part:
    try:
        folders = _visible_folders(folder)
    except OSError:
        return {}
    return {class_folder.name: _class_folder(root, class_folder) for class_folder in folders}


def _class_folder(root: Path, folder: Path) -> ClassFolder:
    unlistable: list[str] = []
    links: list[str] = []
    images: list[str] = []
    others: Counter[str] = Counter()
    prefix = len(os.path.join(root, ""))  # noqa: PTH118  Strings, for there may be 100,000 of them.
    for place, subfolders, names in os.walk(folder, onerror=lambda error: unlistable.append(str(error.filename))):
        _prune(subfolders)
        links += (link for link in _joined(place, subfolders) if os.path.islink(link))  # noqa: PTH114
        images += _joined(place, filter(_is_image, names))
        others.update(_other_suffixes(names))
    return ClassFolder(
        images={_origin(image, prefix): Path(image) for image in sorted(images)},
        other_suffixes=others,
        unlistable=tuple(_origin(place, prefix) for place in sorted(unlistable)),
        links=tuple(_origin(link, prefix) for link in sorted(links)),
    )


def _joined(place: str, names: Iterator[str] | Sequence[str]) -> list[str]:
    return [os.path.join(place, name) for name in names]  # noqa: PTH118


def _origin(path: str, prefix: int) -> str:
    return shown(path[prefix:].replace(os.sep, "/"))


def _other_suffixes(names: Sequence[str]) -> list[str]:
    return [
        shown(Path(name).suffix.lower()) or "no ending"
        for name in names
        if not name.startswith(".") and not _is_image(name) and name.lower() not in IGNORED_FILES
    ]


def _split_folder_faults(root: Path, folder: Path) -> list[str]:
    name = shown(folder.relative_to(root)) + "/"
    try:
        loose = _loose_images(folder)
    except OSError as error:
        return [f"{name} cannot be opened: {error.strerror}"]
    if not loose:
        return []
    hint = "" if _split_of(folder) == "train" else f", or move {name} away: that split is then taken from train/"
    fault = (
        f"{len(loose)} images lie directly in {name} (such as {shown(loose[0])}), so their classes are not known. "
        f"Put them into one folder per class{hint}"
    )
    return [fault]


def _link_remarks(tree: Tree) -> list[str]:
    links = [link for part in tree.parts.values() for found in part.values() for link in found.links]
    return [f"Linked folders inside class folders are not followed: {listed(links)}."] if links else []
