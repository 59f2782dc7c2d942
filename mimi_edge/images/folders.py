"""Finds images in a folder per class, with or without folders for the splits above them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mimi_edge.errors import ConfigError
from mimi_edge.images.find_files import FoundImages, image_files, left_out_note, listed, sorted_out, visible_folders
from mimi_edge.images.labels import folders_from_table, table_of_labels
from mimi_edge.images.mistakes import unpack_advice
from mimi_edge.images.read_image import shown

EVERYTHING = "all"
"""Name of the only part of a folder that is not divided into splits."""
SPLIT_NAMES = (
    dict.fromkeys(("train", "training"), "train")
    | dict.fromkeys(("val", "valid", "validation", "dev"), "val")
    | dict.fromkeys(("test", "testing", "eval"), "test")
)
"""What folders of splits are called, in lower case, and which split each holds."""
LAYOUT_HELP = (
    "Expected a folder with one folder of images per class (data/cat/1.jpg, data/dog/2.jpg), "
    "or such folders inside train/, val/ and test/."
)


Part = Mapping[str, FoundImages]
"""What the folder of each class holds, by the name of the class, sorted; origins are paths inside the data folder."""


@dataclass(frozen=True)
class Tree:
    """Everything found in a data folder.

    Attributes:
        parts: by split; only EVERYTHING where the folder is not divided into splits.
        remarks: sentences on how the folder was understood, where that is not plain.
        faults: what makes it unusable.
        names: what the folder of each split is called.
        of_folders: whether folders say which image is of which class, not a table.
    """

    parts: Mapping[str, Part]
    remarks: tuple[str, ...]
    faults: tuple[str, ...]
    names: Mapping[str, str] = field(default_factory=dict)
    of_folders: bool = True

    @property
    def source(self) -> str:
        """The part that splits are taken from where they are not given."""
        return "train" if "train" in self.parts else EVERYTHING

    def place(self, split: str) -> str:
        """What messages call the folder of a split, with the slash; or the split of a table."""
        if not self.of_folders:
            return f"the split {split}"
        return f"{shown(self.names.get(split, split))}/"


def find_images(root: Path) -> Tree:
    """Lists the images of a folder, in an order that does not depend on the file system.

    Raises:
        ConfigError: the folder is missing, is not a folder, cannot be opened, or holds no class folders; or its
            classes are in a table.
    """
    root = root.absolute()
    folders = _root_folders(root)
    splits, faults = _split_folders(root, folders)
    if faults and not splits:
        _require_no_table(root)
    if not splits and not faults:
        tree = _undivided(root, folders)
    else:
        parts = {split: _part(root, folder) for split, folder in splits.items()}
        faults += [fault for folder in splits.values() for fault in _split_folder_faults(root, folder)]
        others = [folder for folder in folders if folder.name.lower() not in SPLIT_NAMES]
        remarks = [f"Beside the splits, {shown(root)} has {_row(others)}: left out."] if others else []
        names = {split: folder.name for split, folder in splits.items()}
        tree = Tree(parts, tuple(remarks), tuple(faults), names)
    return replace(tree, remarks=tree.remarks + tuple(_remarks(tree)))


def images_of(tree: Tree) -> dict[str, Path]:
    """All images of a tree by origin."""
    return {
        origin: path for part in tree.parts.values() for found in part.values() for origin, path in found.images.items()
    }


def without_classes(tree: Tree, names: Iterable[str]) -> Tree:
    """The same without some classes."""
    gone = set(names)
    parts = {
        split: {name: found for name, found in part.items() if name not in gone} for split, part in tree.parts.items()
    }
    return replace(tree, parts=parts)


def _root_folders(root: Path) -> list[Path]:
    if not root.exists():
        raise ConfigError(f"The data folder {shown(root)} does not exist. Check the path.")
    if not root.is_dir():
        raise ConfigError(unpack_advice(root) or f"{shown(root)} is a file, not a folder. {LAYOUT_HELP}")
    try:
        folders = _visible_folders(root)
    except OSError as error:
        raise ConfigError(f"The data folder {shown(root)} cannot be opened: {error.strerror}.") from error
    if not folders:
        _require_no_table(root)
        raise ConfigError(f"{shown(root)} holds no folders, so there are no classes. {LAYOUT_HELP}")
    return folders


def _require_no_table(folder: Path) -> None:
    """Refuses images whose classes are in a table beside them, and says how to make folders of it."""
    if found := table_of_labels(folder):
        raise ConfigError(folders_from_table(found))


def _visible_folders(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.is_dir()]
    return [folder / name for name in visible_folders(names)]


def _split_folders(root: Path, folders: Sequence[Path]) -> tuple[dict[str, Path], list[str]]:
    """Which folder holds which split, nothing if the folders are classes; and what is wrong with them."""
    named = [folder for folder in folders if folder.name.lower() in SPLIT_NAMES]
    others = [folder for folder in folders if folder not in named]
    trains = [folder for folder in named if _split_of(folder) == "train"]
    if not named or not all(_holds_classes(folder) for folder in trains):
        return {}, _flat_split_faults(root, named, others, trains)
    if others and (not trains or (trains == named and any(image_files(folder).images for folder in others))):
        return {}, []
    faults = _repeated_split_faults(named)
    if not trains:
        faults.append(f"there is no train/ beside {_row(named)}. If these are your classes, rename the folders")
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


def _flat_split_faults(root: Path, named: Sequence[Path], others: Sequence[Path], trains: Sequence[Path]) -> list[str]:
    """What to say where train/ has no class folders: beside other classes it is a class, by itself it is a mistake."""
    if not named or others:
        return []
    fault = (
        f"{shown(root)} holds {_row(named)} only, and {_row(trains)} has no folders for the classes, so they are not "
        "known. Put the images into one folder per class (train/cat/1.jpg). If these are your classes, rename the "
        "folders"
    )
    return [fault]


def _holds_classes(folder: Path) -> bool:
    """Whether a folder has folders and no images of its own, as far as can be seen."""
    try:
        return bool(_visible_folders(folder)) and not _loose_images(folder)
    except OSError:
        return True


def _loose_images(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if not entry.is_dir()]
    return sorted(os.path.basename(path) for path in sorted_out(str(folder), names)[0])  # noqa: PTH119


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
    part = _part(root, root)
    if sum(bool(found.images) for found in part.values()) < 2:
        _require_no_table(root)
    return Tree({EVERYTHING: part}, tuple(remarks), ())


def _part(root: Path, folder: Path) -> Part:
    try:
        folders = _visible_folders(folder)
    except OSError:
        return {}
    return {class_folder.name: image_files(class_folder, inside=root) for class_folder in folders}


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


def _remarks(tree: Tree) -> list[str]:
    """What class folders hold that is not used."""
    found = [one for part in tree.parts.values() for one in part.values()]
    links = [link for one in found for link in one.links]
    remarks = [f"Linked folders inside class folders are not followed: {listed(links)}."] if links else []
    left_out = sum((Counter(one.left_out) for one in found), Counter[str]())
    return remarks + [note for note in [left_out_note(left_out)] if note]
