"""A table of measurements that take hours: a line a run, written as it ends, so the same command goes on there."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class GrowingCsv:
    """Lines of a CSV file.

    Args:
        path: of the file; made with the first line.
        keys: columns that say what was measured.
        values: the others.
    """

    def __init__(self, path: Path, keys: Sequence[str], values: Sequence[str]) -> None:
        self._path, self._keys, self._columns = path, keys, (*keys, *values)

    def has(self, key: Sequence[str]) -> bool:
        """Whether there is a line of that."""
        return tuple(key) in {tuple(line[name] for name in self._keys) for line in self._lines()}

    def add(self, key: Sequence[str], values: Sequence[Any]) -> None:
        """Adds a line."""
        is_new = not self._path.exists()
        with self._path.open("a", newline="") as opened:
            writer = csv.writer(opened, lineterminator="\n")
            if is_new:
                writer.writerow(self._columns)
            writer.writerow((*key, *values))

    def _lines(self) -> list[Mapping[str, str]]:
        if not self._path.exists():
            return []
        with self._path.open(newline="") as opened:
            return list(csv.DictReader(opened))
