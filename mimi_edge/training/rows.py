"""Some images of a batch, where several processes share it and each brings and varies only what it needs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rows:
    """Which images of a batch, by their numbers in it.

    Attributes:
        numbers: ascending, each once.
        of: how many images the batch has.
    """

    numbers: tuple[int, ...]
    of: int

    @classmethod
    def all_of(cls, count: int) -> Rows:
        """All images of a batch."""
        return cls(tuple(range(count)), count)

    @property
    def are_all(self) -> bool:
        """Whether none is left out."""
        return len(self.numbers) == self.of

    @property
    def mirrored(self) -> tuple[int, ...]:
        """Those at the same places from the end, in the order of the numbers that they mirror."""
        return tuple(self.of - 1 - number for number in self.numbers)

    def with_mirrored(self) -> Rows:
        """And those at the same places from the end."""
        return Rows(tuple(sorted({*self.numbers, *self.mirrored})), self.of)

    def of_batch(self, whole: Tensor, along: int = 0) -> Tensor:
        """These of something that has an entry for each image of the batch."""
        return whole if self.are_all else whole.index_select(along, self._index(self.numbers, whole))

    def picked(self, ours: Tensor, numbers: Sequence[int]) -> Tensor:
        """The entries of some of these rows, by their numbers, of something [b, ...] that has one for each."""
        if tuple(numbers) == self.numbers:
            return ours
        places = {number: place for place, number in enumerate(self.numbers)}
        return ours[self._index([places[number] for number in numbers], ours)]

    @staticmethod
    def _index(numbers: Iterable[int], used_on: Tensor) -> Tensor:
        return torch.tensor(list(numbers), dtype=torch.int64, device=used_on.device)
