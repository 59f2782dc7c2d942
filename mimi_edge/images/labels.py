"""Recognises images whose classes are in a table beside them, and says how to make a folder per class of it."""

from __future__ import annotations

import csv
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mimi_edge.images.find_files import sorted_out, visible_folders
from mimi_edge.images.formats import suffix_of
from mimi_edge.images.read_image import shown
from mimi_edge.images.sources.names import TEXT_TABLES

DELIMITERS = ",;\t|"
LABEL_NAMES = ("label", "labels", "class", "class_name", "classname", "category", "target", "species", "breed", "tag")
SPLIT_COLUMNS = ("split", "set", "subset", "partition", "usage", "fold")
IMAGE_NAMES = ("path", "file", "filename", "file_name", "image", "image_path", "filepath")
COLUMNS = ("path", "label", "split")
"""What a table says of an image; it need not say the last."""
LARGEST_SAMPLE_BYTES = 200_000
ROWS_LOOKED_UP = 20
MOST_COLUMNS, MOST_PLACES = 20, 8


@dataclass(frozen=True)
class LabelTable:
    """A table that names images and their classes.

    Attributes:
        path: of it.
        delimiter: between its columns.
        place: the folder that names of images are relative to.
        image_column: with those names, from 0.
        ending: that is added to a name to make it a file's.
        label_column: with the classes, from 0.
    """

    path: Path
    delimiter: str
    place: Path
    image_column: int
    ending: str
    label_column: int


def columns_in(titles: Sequence[str], asked: Mapping[str, str]) -> dict[str, int]:
    """Which column has what, from 0, by the titles in a table's first row; what has none is missing.

    Args:
        titles: of the columns.
        asked: titles to look for instead of those that are usual, by what they stand for.
    """
    known = dict(zip(COLUMNS, (IMAGE_NAMES, LABEL_NAMES, SPLIT_COLUMNS), strict=True))
    at = {title.strip().lower(): column for column, title in reversed(list(enumerate(titles)))}
    wanted = {part: (asked[part].lower(),) if part in asked else names for part, names in known.items()}
    found = {part: next((at[name] for name in names if name in at), None) for part, names in wanted.items()}
    return {part: column for part, column in found.items() if column is not None}


def table_of_labels(folder: Path, named: Path | None = None) -> LabelTable | None:
    """The table in a folder that names images in it or one folder deeper; of several, the first by name.

    Args:
        folder: to look into.
        named: the only table that counts, if it was named.
    """
    try:
        tables = sorted(path for path in folder.iterdir() if path.suffix.lower() in TEXT_TABLES and path.is_file())
        found = (_read(table, [folder, *_places(folder)]) for table in tables if named in (None, table))
        return next((table for table in found if table), None)
    except OSError:  # What cannot be looked at gives no advice; that the folder cannot be opened is said elsewhere.
        return None


def folders_from_table(table: LabelTable) -> str:
    """What to do: the lines that make a folder per class, with links to the images, and what to give then."""
    target = table.path.parent.with_name(f"{table.path.parent.name}-by-class")
    name = f"row[{table.image_column}]" + (f" + {table.ending!r}" if table.ending else "")
    quoted = shlex.quote(shown(target))
    return f"""{_given_itself(table)}{shown(table.path)} names images (column {table.image_column + 1}) and classes \
(column {table.label_column + 1}). Here a class is a folder: this makes folders, with links to your images.

python3 - <<'END'
import csv, os
for row in csv.reader(open({shown(table.path)!r}, newline="", encoding="utf-8-sig"), delimiter={table.delimiter!r}):
    image = os.path.join({shown(table.place)!r}, {name})
    folder = os.path.join({shown(target)!r}, row[{table.label_column}].strip().replace("/", "-"))
    link = os.path.join(folder, os.path.basename(image))
    if os.path.isfile(image) and not os.path.lexists(link):
        os.makedirs(folder, exist_ok=True)
        os.symlink(image, link)
END

Then give --data {quoted}"""


def _given_itself(table: LabelTable) -> str:
    """That the table can be given as it is, if its titles say what is where."""
    titles = _rows(table.path)[1][:1]
    if table.ending or table.place != table.path.parent or not titles:
        return ""
    at = columns_in(titles[0], {})
    if (at.get("path"), at.get("label")) != (table.image_column, table.label_column):
        return ""
    return f"The table says which image is of which class: give it, as --data {shlex.quote(shown(table.path))}\n\nOr: "


def _places(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        names = visible_folders(entry.name for entry in entries if entry.is_dir())
    return [folder / name for name in names[:MOST_PLACES]]


def _read(path: Path, places: Sequence[Path]) -> LabelTable | None:
    delimiter, rows = _rows(path)
    columns = range(min(MOST_COLUMNS, max(map(len, rows), default=0)))
    guesses = ((folder, ending, column) for folder in places for ending in _endings(folder) for column in columns)
    for place, ending, column in guesses:
        if _names_images(rows, column, place, ending):
            label = _label_column(path, column)
            return None if label is None else LabelTable(path, delimiter, place, column, ending, label)
    return None


def _names_images(rows: Sequence[Sequence[str]], column: int, place: Path, ending: str) -> bool:
    """Whether half of the rows or more name files; the first may have titles, and some files may be gone."""
    count = sum(len(row) > column and _is_file(place, row[column] + ending) for row in rows)
    return count > 0 and 2 * count >= len(rows)


def _rows(path: Path, most: int = ROWS_LOOKED_UP) -> tuple[str, list[list[str]]]:
    """The delimiter of a table, and its first rows."""
    with path.open("rb") as opened:
        text = opened.read(LARGEST_SAMPLE_BYTES).decode("utf-8-sig", "replace")
    lines = text.splitlines()
    if len(text) >= LARGEST_SAMPLE_BYTES:
        lines = lines[:-1]
    delimiter = max(DELIMITERS, key=lines[0].count) if lines else ","
    return delimiter, list(_parsed(lines[:most], delimiter))


def _parsed(lines: Sequence[str], delimiter: str) -> Iterator[list[str]]:
    try:
        yield from (row for row in csv.reader(lines, delimiter=delimiter) if row)
    except csv.Error:
        return


def _endings(place: Path) -> list[str]:
    """What may have to be added to a name in a table: nothing, or an ending of the images in a folder."""
    with os.scandir(place) as entries:
        names = [entry.name for entry in entries if not entry.is_dir()]
    images = sorted_out(str(place), names)[0]
    return ["", *sorted({Path(image).suffix for image in images if suffix_of(image)})]


def _is_file(place: Path, name: str) -> bool:
    try:
        return (place / name).is_file()
    except (OSError, ValueError):  # Too long for a name, or with a zero in it: text, not a name.
        return False


def _label_column(path: Path, image_column: int) -> int | None:
    """The column with the classes: by its title, else the one with the fewest different values, at least two."""
    _, rows = _rows(path, most=LARGEST_SAMPLE_BYTES)
    titles = [title.strip().lower() for title in rows[0]]
    for name in LABEL_NAMES:
        if name in titles and titles.index(name) != image_column:
            return titles.index(name)
    counts = {
        column: len({row[column] for row in rows[1:] if len(row) > column})
        for column, title in enumerate(titles)
        if column != image_column and title not in SPLIT_COLUMNS
    }
    usable = {column: count for column, count in counts.items() if count >= 2}
    return min(usable, key=lambda column: usable[column]) if usable else None
