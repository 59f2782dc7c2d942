"""Tables of text and of Parquet, row by row."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mimi_edge.documents import read_bytes
from mimi_edge.errors import ConfigError
from mimi_edge.images.labels import DELIMITERS
from mimi_edge.images.read_image import shown
from mimi_edge.images.sources.names import PARQUET

LARGEST_BYTES = 500_000_000


@dataclass(frozen=True)
class Row:
    """A row below the titles, with something in it.

    Attributes:
        place: where it is, as messages call it, such as `line 3`.
        cells: its texts, without space around them; there may be fewer than titles.
    """

    place: str
    cells: Sequence[str]


def titles_and_rows(path: Path) -> tuple[Sequence[str], Iterator[Row]]:
    """The first row of a table, or the names of its columns, and what is below.

    Raises:
        ConfigError: it cannot be read, now or on the way.
    """
    return _of_parquet(path) if path.suffix.lower() == PARQUET else _of_text(path)


def _of_text(path: Path) -> tuple[Sequence[str], Iterator[Row]]:
    try:
        text = read_bytes(path, LARGEST_BYTES).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{shown(path)} cannot be read as a table: {getattr(error, 'strerror', None) or error}."
        ) from error
    first = text.partition("\n")[0]
    rows = _text_rows(path, text, delimiter=max(DELIMITERS, key=first.count))
    return next(rows, Row("line 1", ())).cells, (row for row in rows if any(row.cells))


def _text_rows(path: Path, text: str, delimiter: str) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        for cells in reader:
            yield Row(f"line {reader.line_num}", [cell.strip() for cell in cells])
    except csv.Error as error:
        raise ConfigError(f"{shown(path)} is no table that can be read (line {reader.line_num}: {error}).") from error


def _of_parquet(path: Path) -> tuple[Sequence[str], Iterator[Row]]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise ConfigError(f"{shown(path)} cannot be read as a Parquet table: {str(error).splitlines()[0]}") from error
    plain = [name for name, kind in zip(table.column_names, table.schema.types, strict=True) if _is_plain(kind)]
    columns = [table.column(name).to_pylist() for name in plain]
    rows = (
        Row(f"row {number}", ["" if cell is None else str(cell).strip() for cell in cells])
        for number, cells in enumerate(zip(*columns, strict=True), 1)
    )
    return plain, (row for row in rows if any(row.cells))


def _is_plain(kind: object) -> bool:
    """Whether a column has texts or numbers, not bytes or things with parts."""
    from pyarrow import types

    decoded = kind.value_type if types.is_dictionary(kind) else kind  # type: ignore[attr-defined]
    return any(is_so(decoded) for is_so in (types.is_string, types.is_large_string, types.is_integer))
