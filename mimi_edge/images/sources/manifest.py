"""A table that names images, their classes and, if it likes, their splits: `--data labels.csv`, or `labels.parquet`.

Its columns have titles. Paths are relative to the table's folder. What the table says becomes the same tree that
folders of classes make, so checks, sharing out and written splits are theirs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mimi_edge.errors import ConfigError
from mimi_edge.events import Note
from mimi_edge.images.faults import classes_of
from mimi_edge.images.find_files import FoundImages, listed
from mimi_edge.images.folders import EVERYTHING, SPLIT_NAMES, Tree
from mimi_edge.images.labels import COLUMNS, columns_in, folders_from_table, table_of_labels
from mimi_edge.images.read_image import shown
from mimi_edge.images.sources import folder
from mimi_edge.images.sources.asked import Asked
from mimi_edge.images.sources.columns import asked_columns
from mimi_edge.images.sources.names import TABLES
from mimi_edge.images.sources.tables import Row, titles_and_rows
from mimi_edge.images.splits import Dataset
from mimi_edge.texts import excerpt, fault_list


@dataclass(frozen=True)
class _Row:
    """A row that names an image."""

    place: str
    path: str
    label: str
    split: str | None


def takes(spec: str) -> bool:
    """Whether it is a file with the ending of a table."""
    path = Path(spec).expanduser()
    return path.suffix.lower() in TABLES and path.is_file()


def load(asked: Asked) -> Dataset:
    """Finds the images that the table names.

    Raises:
        ConfigError: the table or what it names cannot be used; faults are named with their lines.
    """
    path = Path(asked.spec).expanduser().absolute()
    return folder.dataset_of(_tree(path, asked), path, asked)


def classes(asked: Asked) -> tuple[str, ...]:
    """Of all images that the table names; arguments and errors as of `load`."""
    return classes_of(_tree(Path(asked.spec).expanduser().absolute(), asked))


def _tree(path: Path, asked: Asked) -> Tree:
    rows = list(_rows(path, asked_columns(asked.columns)))
    faults = [f"{row.place}: {fault}" for row, fault in _faults(rows)]
    splits = {SPLIT_NAMES.get(row.split.lower()) for row in rows if row.split is not None}
    if splits and "train" not in splits:
        faults.append("no image is of the split train")
    missing = [row for row in rows if row.path and not (path.parent / row.path).is_file()]
    if missing and asked.skip_bad_images:
        asked.listener(
            Note(f"Left out {len(missing)} images that are not there: {listed([row.path for row in missing])}.")
        )
    else:
        faults += [f"{row.place}: there is no file {excerpt(row.path)}" for row in missing]
    if faults:
        may_skip = missing and not asked.skip_bad_images
        raise ConfigError(
            f"{shown(path)} cannot be used:\n{fault_list(faults)}\nCorrect this and try again."
            + (" To go on without images that are not there: --skip-bad-images" if may_skip else "")
        )
    gone = {row.place for row in missing}
    return Tree(_parts(path, [row for row in rows if row.place not in gone]), (), (), of_folders=False)


def _parts(path: Path, rows: Sequence[_Row]) -> Mapping[str, Mapping[str, FoundImages]]:
    images: dict[str, dict[str, dict[str, Path]]] = {}
    for row in rows:
        split = EVERYTHING if row.split is None else SPLIT_NAMES[row.split.lower()]
        images.setdefault(split, {}).setdefault(row.label, {})[shown(row.path)] = path.parent / row.path
    return {
        split: {label: FoundImages(dict(sorted(found.items())), {}, (), ()) for label, found in sorted(part.items())}
        for split, part in images.items()
    }


def _faults(rows: Sequence[_Row]) -> Iterator[tuple[_Row, str]]:
    seen: dict[str, str] = {}
    for row in rows:
        if not row.path:
            yield row, "names no image"
        elif (before := seen.setdefault(row.path, row.place)) != row.place:
            yield row, f"{excerpt(row.path)} is in {before}, too"
        if not row.label:
            yield row, "names no class"
        if row.split is not None and row.split.lower() not in SPLIT_NAMES:
            yield row, f"expected a split, one of {', '.join(SPLIT_NAMES)}, got {excerpt(row.split)}"


def _rows(path: Path, asked: Mapping[str, str]) -> Iterator[_Row]:
    """All rows but empty ones.

    Raises:
        ConfigError: the table cannot be read, or has no titles that say where paths and classes are.
    """
    titles, rows = titles_and_rows(path)
    at = columns_in(titles, asked)
    if missing := [part for part in (*COLUMNS[:2], *asked) if part not in at]:
        raise ConfigError(_no_titles(path, titles, missing))
    return (_row(row, at) for row in rows)


def _row(row: Row, at: Mapping[str, int]) -> _Row:
    def cell(part: str) -> str:
        return row.cells[at[part]] if at[part] < len(row.cells) else ""

    return _Row(row.place, cell("path"), cell("label"), cell("split") if "split" in at else None)


def _no_titles(path: Path, titles: Sequence[str], missing: Sequence[str]) -> str:
    found = table_of_labels(path.parent, path)
    return (
        f"{shown(path)} has no column for {' and '.join(dict.fromkeys(missing))}; its titles are "
        f"{listed([excerpt(title) for title in titles]) or 'none'}. Expected path and label, and split if there are "
        "any; other titles are named by --data-columns path=TITLE,label=TITLE,split=TITLE"
        + (f"\n\nOr: {folders_from_table(found)}" if found else "")
    )
