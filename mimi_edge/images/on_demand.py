"""Images that are kept nowhere, and decoded by a few threads whenever they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mimi_edge.errors import ConfigError
from mimi_edge.images.fitted import PartOf, fitted_image, fitted_part, usable_threads
from mimi_edge.images.preprocessing import Preprocessing
from mimi_edge.images.splits import Split


@dataclass(frozen=True, eq=False)
class OnDemand:
    """The images of a split that can be used.

    Attributes:
        split: that they are of.
        preprocessing: of the task; H and W are its size.
        good: their indices in the split.
    """

    split: Split
    preprocessing: Preprocessing
    good: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.good)

    def decoded(self, positions: Sequence[int]) -> NDArray[np.uint8]:
        """Those of some positions in `good`, [B, 3, H, W].

        Raises:
            ConfigError: one cannot be used any more.
        """
        return self._together(positions, self._pool.map(self._decoded, positions))

    def parts(self, positions: Sequence[int], parts: Sequence[PartOf]) -> NDArray[np.uint8]:
        """A part of each of some positions in `good`, [B, 3, H, W].

        Raises:
            ConfigError: one cannot be used any more.
        """
        return self._together(positions, self._pool.map(self._part, positions, parts))

    def _together(self, positions: Sequence[int], decoded: Iterator[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        images = np.empty((len(positions), 3, *self.preprocessing.size), np.uint8)
        for place, pixels in enumerate(decoded):
            images[place] = pixels.transpose(2, 0, 1)
        return images

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(usable_threads())

    def _decoded(self, position: int) -> NDArray[np.uint8]:
        index = self.good[position]
        outcome = fitted_image(self.split, self.preprocessing, index)
        if isinstance(outcome, str):
            raise self._gone(index, outcome)
        return outcome.pixels

    def _part(self, position: int, part_of: PartOf) -> NDArray[np.uint8]:
        index = self.good[position]
        pixels = fitted_part(self.split, self.preprocessing, index, part_of)
        if isinstance(pixels, str):
            raise self._gone(index, pixels)
        return pixels

    def _gone(self, index: int, reason: str) -> ConfigError:
        return ConfigError(
            f"{self.split.origin(index)} could be used when the run began, and cannot any more: {reason}. Put it "
            "back as it was, and go on with --resume."
        )
