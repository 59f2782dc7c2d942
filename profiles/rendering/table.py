"""Rows of text: what a terminal, Markdown and a page show alike."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

_FIGURES = re.compile(r"[-+]?\d[\d,.]*(e[-+]?\d+)?%?( |,|$)")
"""A figure, and what may be said of it behind."""


@dataclass(frozen=True)
class Table:
    """Rows of text; the first cell of each names the row.

    Attributes:
        title: above it.
        columns: headings.
        rows: with a cell for each column.
        note: what one has to know to read it.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    @staticmethod
    def of(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], note: str = "") -> Table:
        """A table of whatever can be written."""
        return Table(title, tuple(columns), tuple(tuple(map(str, row)) for row in rows), note)

    @property
    def figures(self) -> tuple[bool, ...]:
        """Of each column, whether it holds nothing but figures."""
        columns = map(self.column_at, range(len(self.columns)))
        return tuple(all(not cell or _FIGURES.match(cell) for cell in cells) for cells in columns)

    def column_at(self, place: int) -> list[str]:
        """Cells of the column at a place."""
        return [row[place] for row in self.rows]

    def column(self, name: str) -> list[str]:
        """Cells of the column with a heading."""
        return self.column_at(self.columns.index(name))

    def only(self, columns: Sequence[str], *, title: str, filled: str | None = None) -> Table:
        """Some of the columns under a title of their own, where there is no room for all; without the note.

        Args:
            columns: that stay, in their new order.
            title: above them.
            filled: leave out rows that have nothing in this column.
        """
        needed = None if filled is None else self.columns.index(filled)
        rows = [row for row in self.rows if needed is None or row[needed]]
        places = [self.columns.index(name) for name in columns]
        cells = tuple(tuple(row[place] for place in places) for row in rows)
        return replace(self, title=title, columns=tuple(columns), rows=cells, note="")
