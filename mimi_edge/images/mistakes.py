"""What a folder looks like that is not laid out as a data set, and what to do about it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path

from mimi_edge.images.find_files import FoundImages, listed
from mimi_edge.images.read_image import shown

SPLIT_HINTS = {
    "train": ("train", "learn"),
    "val": ("val", "dev"),
    "test": ("test", "eval", "hold"),
}
"""Parts of names by which a folder is guessed to be a split, in lower case."""
FEW_FOLDERS = 3
"""So many folders may be splits whatever they hold; more of them only where each holds at least as many."""
ARCHIVES = {
    ".zip": "unzip {} -d {}",
    ".tar": "mkdir -p {1} && tar -xf {0} -C {1}",
    ".tgz": "mkdir -p {1} && tar -xf {0} -C {1}",
    ".gz": "mkdir -p {1} && tar -xf {0} -C {1}",
    ".bz2": "mkdir -p {1} && tar -xf {0} -C {1}",
    ".xz": "mkdir -p {1} && tar -xf {0} -C {1}",
    ".7z": "7z x {} -o{}",
}
"""What unpacks a file of each ending into a folder."""


def unpack_advice(path: Path) -> str | None:
    """The lines that unpack an archive and train on what was in it; None for a file of another kind."""
    line = ARCHIVES.get(path.suffix.lower())
    if line is None:
        return None
    folder = _quoted(path.with_name(path.name.split(".")[0] or "data"))
    return (
        f"{shown(path)} is an archive. Unpack it first: {line.format(_quoted(path), folder)}; then give --data {folder}"
    )


def disguised_splits(root: Path, part: Mapping[str, FoundImages]) -> str | None:
    """What to say of folders that would be classes, but all hold the same folders: splits of another name."""
    inner = {name: _inner_folders(root / name, found) for name, found in part.items() if found.images}
    if len(inner) < 2 or not all(inner.values()):
        return None
    common = frozenset.intersection(*inner.values())
    most = max(map(len, inner.values()))
    if len(common) < 2 or 2 * len(common) < most or len(inner) > max(FEW_FOLDERS, most):
        return None
    return (
        f"{_row(inner)} hold the same folders ({_row(sorted(common))}), so they look like splits, not like classes. "
        f"Name them train/, val/ and test/{_renaming(root, inner)}. If they are your classes, move the images of each "
        "up, out of its sub-folders"
    )


def outer_folder(root: Path, name: str, found: FoundImages) -> str | None:
    """What to say of the only folder there is, where the class folders lie deeper inside it."""
    place = root / name
    while len(inner := _inner_folders(place, found)) == 1:
        place /= next(iter(inner))
    if not inner:
        return None
    if _guessed(place.name) and place != root / name:
        place = place.parent
    return (
        f"{shown(root)} holds one folder only, {shown(name)}/, and the class folders lie deeper "
        f"({_row(sorted(inner))}). Give the folder that holds them: --data {_quoted(place)}"
    )


def _inner_folders(folder: Path, found: FoundImages) -> frozenset[str]:
    """Folders directly below one that hold all of its images; none where an image lies in it directly."""
    depth = len(folder.parts)
    below = [path.parts[depth:] for path in found.images.values() if path.parts[:depth] == folder.parts]
    return frozenset() if any(len(parts) == 1 for parts in below) else frozenset(parts[0] for parts in below)


def _renaming(root: Path, names: Iterable[str]) -> str:
    """Lines that rename the folders, where it is plain which is which."""
    wanted = {name: split for name in names if (split := _guessed(name))}
    if len(set(wanted.values())) < len(wanted):
        return ""
    lines = [f"mv {_quoted(root / name)} {_quoted(root / split)}" for name, split in wanted.items() if name != split]
    return ": " + "; ".join(lines) if lines else ""


def _guessed(name: str) -> str | None:
    lower = name.lower()
    return next((split for split, hints in SPLIT_HINTS.items() if any(hint in lower for hint in hints)), None)


def _row(names: Iterable[str]) -> str:
    return listed([f"{shown(name)}/" for name in names])


def _quoted(path: Path) -> str:
    return shlex.quote(shown(path))
