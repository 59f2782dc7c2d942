"""Answers of `predict` in a file, written as they come: what is there when it is interrupted is whole lines."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from mimi_edge.errors import ConfigError
from mimi_edge.texts import json_text

if TYPE_CHECKING:
    from mimi_edge.export.prediction import Prediction

CSV, JSONL = ".csv", ".jsonl"


class AnswerFile:
    """A file of answers, a line each, and a line for each image without one.

    Attributes:
        path: of the file.
        lines: written so far, without a heading.
    """

    def __init__(self, path: Path, stream: TextIO, top: int) -> None:
        self.path, self.lines = path, 0
        self._stream, self._top = stream, top
        self._write = self._csv_lines() if path.suffix.lower() == CSV else self._json_lines()

    def answer(self, one: Prediction) -> None:
        """Adds an answer."""
        self._add({"image": _text(one.path), "task": one.task}, one.top, None)

    def failure(self, image: Path, reason: str) -> None:
        """Adds an image that has no answer."""
        self._add({"image": _text(image)}, (), reason)

    def _add(self, names: dict[str, Any], top: tuple[tuple[str, float], ...], error: str | None) -> None:
        self._write(names, top, error)
        self._stream.flush()
        self.lines += 1

    def _csv_lines(self) -> Callable[..., None]:
        rows = csv.writer(self._stream, lineterminator="\n")
        ranks = [f"{name}{suffix}" for suffix in self._suffixes() for name in ("class", "probability")]
        rows.writerow(["image", "task", *ranks, "error"])
        self._stream.flush()

        def write(names: dict[str, Any], top: tuple[tuple[str, float], ...], error: str | None) -> None:
            cells = [cell for label, probability in top for cell in (label, f"{probability:.6g}")]
            cells += [""] * (len(ranks) - len(cells))
            rows.writerow([names["image"], names.get("task", ""), *cells, error or ""])

        return write

    def _suffixes(self) -> list[str]:
        return ["", *(f"_{rank}" for rank in range(2, self._top + 1))]

    def _json_lines(self) -> Callable[..., None]:
        def write(names: dict[str, Any], top: tuple[tuple[str, float], ...], error: str | None) -> None:
            answer = {"label": top[0][0], "probability": top[0][1], "top": top} if top else {"error": error}
            self._stream.write(json_text(names | answer, indent=None) + "\n")

        return write


def check_answer_file(path: Path) -> None:
    """Makes sure that answers can go to a file, before anything is computed.

    Raises:
        ConfigError: its ending says nothing, or its folder is not there.
    """
    if path.suffix.lower() not in (CSV, JSONL):
        raise ConfigError(f"--output takes a name that ends with {CSV} or {JSONL}; got {path}.")
    if path.is_dir() or not path.absolute().parent.is_dir():
        why = "it is a folder" if path.is_dir() else "its folder does not exist"
        raise ConfigError(f"{path} cannot be written: {why}. Name another file with --output.")


@contextmanager
def answer_file(path: Path, top: int) -> Iterator[AnswerFile]:
    """A new file of answers; one of that name is replaced.

    Raises:
        OSError: it cannot be written; it names the file.
    """
    try:
        with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as stream:
            yield AnswerFile(path, stream, top)
    except OSError as error:
        # A full disk names no file.
        error.filename = error.filename or str(path)
        raise


def _text(path: Path) -> str:
    from mimi_edge.images.read_image import shown

    return shown(path)
