"""Which class is taken for which: a count for each pair of what an image shows and what was answered."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_TOLD = 20
"""Pairs of classes that a report names."""


@dataclass(frozen=True)
class Mistake:
    """Images of one class that were taken for another.

    Attributes:
        shows: the class that they are of.
        answered: the class that they were taken for.
        images: how many.
        share: of all images of the class, 0..1.
    """

    shows: str
    answered: str
    images: int
    share: float


@dataclass(frozen=True, eq=False)
class Confusion:
    """Of one split.

    Attributes:
        classes: names of C classes.
        counts: [C, C] images, by the class that they show and the class that was answered.
    """

    classes: tuple[str, ...]
    counts: NDArray[np.int64]

    @cached_property
    def shares(self) -> NDArray[np.float64]:
        """[C, C]: of the images of each class, 0..1; nothing but zeros for a class without images."""
        of_each = self.counts.sum(axis=1, keepdims=True)
        shares: NDArray[np.float64] = self.counts / np.maximum(of_each, 1)
        return shares

    @property
    def mistakes(self) -> list[Mistake]:
        """All pairs that were confused, those with most images first, of equal ones the larger share."""
        rows, columns = np.nonzero(self.counts - np.diag(np.diag(self.counts)))
        found = [
            Mistake(
                self.classes[row], self.classes[column], int(self.counts[row, column]), float(self.shares[row, column])
            )
            for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
        ]
        return sorted(found, key=lambda one: (-one.images, -one.share))

    def only(self, chosen: Sequence[int]) -> Confusion:
        """The part of it that is of some classes, by number; the images that were taken for others are left out."""
        return Confusion(tuple(self.classes[number] for number in chosen), self.counts[np.ix_(chosen, chosen)])

    def most_confused(self, most: int) -> list[int]:
        """Numbers of the classes between which most images are confused, in the order of the classes.

        Pair by pair, from that with most images on, so that classes stay beside what they are taken for.
        """
        number = {name: index for index, name in enumerate(self.classes)}
        pairs = ((number[one.shows], number[one.answered]) for one in self.mistakes)
        return sorted(_first_of(pairs, most, len(self.classes)))

    def csv_text(self) -> str:
        """The whole of it: a row for each class that images show, a column for each that was answered."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["shows \\ answered", *self.classes])
        for name, row in zip(self.classes, self.counts.tolist(), strict=True):
            writer.writerow([name, *row])
        return out.getvalue()

    def document(self) -> list[dict[str, Any]]:
        """The pairs with most images, as values that JSON can hold."""
        return [
            {"shows": one.shows, "answered": one.answered, "images": one.images, "share": round(one.share, 6)}
            for one in self.mistakes[:MOST_TOLD]
        ]


def confusion(answers: NDArray[np.int64], labels: NDArray[np.int64], classes: Sequence[str]) -> Confusion:
    """Counts pairs.

    Args:
        answers: [n] indices into the classes.
        labels: [n] the right ones.
        classes: names.
    """
    count = len(classes)
    pairs = np.bincount(labels * count + answers, minlength=count * count)
    return Confusion(tuple(classes), pairs.reshape(count, count))


def _first_of(pairs: Iterable[tuple[int, int]], most: int, count: int) -> set[int]:
    """As many numbers as there may be: those of the pairs in turn, then, where these are few, the first of all."""
    chosen = set[int]()
    for pair in pairs:
        if len(chosen.union(pair)) <= most:
            chosen.update(pair)
    for number in range(count):
        if len(chosen) < most:
            chosen.add(number)
    return chosen
