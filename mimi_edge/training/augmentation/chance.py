"""Chance for images of a batch: what one of them draws is the same, whether or not the others are at hand."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mimi_edge.training.rows import Rows


@dataclass(frozen=True)
class Chance:
    """Draws for a whole batch, and gives what the rows at hand have drawn.

    Attributes:
        generator: of what is drawn.
        rows: b of the batch, in the order of the pixels that are varied.
    """

    generator: torch.Generator
    rows: Rows

    def shares(self, *each: int) -> Tensor:
        """Numbers of 0..1, float32 [*each, b]."""
        return self.rows.of_batch(self._shares(*each), along=-1)

    def whole_numbers(self, least: int, end: int, *each: int) -> Tensor:
        """Whole numbers from the least to before an end, int64 [*each, b]."""
        drawn = torch.randint(least, end, (*each, self.rows.of), generator=self.generator)
        return self.rows.of_batch(drawn, along=-1)

    def noise(self, *each: int) -> Tensor:
        """Bytes, uint8 [b, *each]."""
        drawn = torch.randint(0, 256, (self.rows.of, *each), dtype=torch.uint8, generator=self.generator)
        return self.rows.of_batch(drawn)

    def some(self, share: float) -> tuple[Tensor, Chance]:
        """Takes a share of the batch, on average.

        Returns:
            The places of those that are at hand, int64 [c], and chance for all that were taken.
        """
        taken = (self._shares() < share).nonzero()[:, 0].tolist()
        places = {number: place for place, number in enumerate(self.rows.numbers)}
        here = [(order, places[number]) for order, number in enumerate(taken) if number in places]
        rows = Rows(tuple(order for order, _ in here), len(taken))
        return torch.tensor([place for _, place in here], dtype=torch.int64), Chance(self.generator, rows)

    def _shares(self, *each: int) -> Tensor:
        return torch.rand((*each, self.rows.of), generator=self.generator)
