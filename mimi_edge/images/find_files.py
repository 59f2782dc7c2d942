"""Lists the images in and below a folder, in the same order everywhere, and counts what is left out."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mimi_edge.images.formats import is_image, reader_line, suffix_of
from mimi_edge.images.read_image import shown

IGNORED_FOLDERS = frozenset({"__MACOSX", "@eaDir"})
IGNORED_FILES = frozenset({"thumbs.db", "desktop.ini"})
NO_ENDING = "no ending"


@dataclass(frozen=True)
class FoundImages:
    """What lies in and below a folder. Hidden files, hidden folders and what systems leave behind are not there.

    Attributes:
        images: paths by their path inside the folder with slashes, fit to be printed; sorted by it.
        left_out: how many files there are that are no images, by their ending in lower case.
        unlistable: paths inside the folder of folders that cannot be opened.
        links: likewise of linked folders, which are not followed since they may lead in circles.
    """

    images: Mapping[str, Path]
    left_out: Mapping[str, int]
    unlistable: tuple[str, ...]
    links: tuple[str, ...]


def image_files(folder: Path, *, inside: Path | None = None) -> FoundImages:
    """Lists the images in and below a folder; none is decoded.

    Args:
        folder: to look into.
        inside: what the names are relative to; the folder itself, if None.
    """
    unlistable: list[str] = []
    links: list[str] = []
    images: list[str] = []
    others: Counter[str] = Counter()
    prefix = len(os.path.join(inside or folder, ""))  # noqa: PTH118  Strings, for there may be 100,000 of them.
    for place, subfolders, names in os.walk(folder, onerror=lambda error: unlistable.append(str(error.filename))):
        subfolders[:] = visible_folders(subfolders)
        links += (link for link in _joined(place, subfolders) if os.path.islink(link))  # noqa: PTH114
        found, rest = sorted_out(place, names)
        images += found
        others.update(shown(suffix_of(path)) or NO_ENDING for path in rest)
    return FoundImages(
        images={_inner(image, prefix): Path(image) for image in sorted(images)},
        left_out=dict(sorted(others.items())),
        unlistable=tuple(_inner(place, prefix) for place in sorted(unlistable)),
        links=tuple(_inner(link, prefix) for link in sorted(links)),
    )


def left_out_note(left_out: Mapping[str, int]) -> str | None:
    """A sentence on the files that were left out, and on what would read those of them that are images."""
    if not left_out:
        return None
    count = sum(left_out.values())
    note = f"Left out {count} file{'s' if count > 1 else ''} that cannot be read as images: {counted(left_out)}."
    lines = {line: suffix for suffix in sorted(left_out, reverse=True) if (line := reader_line(suffix))}
    return note + "".join(f" To read {suffix}: {line}" for line, suffix in sorted(lines.items()))


def counted(left_out: Mapping[str, int]) -> str:
    """Endings with how often each is there, the most frequent first."""
    ordered = sorted(left_out.items(), key=lambda item: (-item[1], item[0]))
    return listed([f"{count} x {suffix}" for suffix, count in ordered])


def listed(names: Sequence[str], most: int = 10) -> str:
    """Names in a row, the first ten of them where there are many."""
    row = ", ".join(names[:most])
    return row if len(names) <= most else f"{row} and {len(names) - most} more"


def visible_folders(names: Iterable[str]) -> list[str]:
    """Names of folders in order, without hidden ones and those that other systems leave behind."""
    return sorted(name for name in names if not name.startswith(".") and name not in IGNORED_FOLDERS)


def sorted_out(place: str, names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Paths of the files in a folder that are images, and of those that are none; hidden ones are in neither."""
    seen = [name for name in names if not name.startswith(".") and name.lower() not in IGNORED_FILES]
    images: list[str] = []
    others: list[str] = []
    for path in _joined(place, seen):
        (images if is_image(path) else others).append(path)
    return images, others


def _joined(place: str, names: Iterable[str]) -> list[str]:
    return [os.path.join(place, name) for name in names]  # noqa: PTH118


def _inner(path: str, prefix: int) -> str:
    return shown(path[prefix:].replace(os.sep, "/"))
