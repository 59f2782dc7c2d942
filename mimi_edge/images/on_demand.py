"""Images that are kept nowhere, and decoded by a few threads whenever they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mimi_edge.errors import ConfigError
from mimi_edge.images.fitted import fitted_image, usable_threads
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
        size = self.preprocessing.size
        images = np.empty((len(positions), 3, *size), np.uint8)
        for place, pixels in enumerate(self._pool.map(self._decoded, positions)):
            images[place] = pixels.transpose(2, 0, 1)
        return images

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(usable_threads())

    def _decoded(self, position: int) -> NDArray[np.uint8]:
        index = self.good[position]
        outcome = fitted_image(self.split, self.preprocessing, index)
        if isinstance(outcome, str):
            raise ConfigError(
                f"{self.split.origin(index)} could be used when the run began, and cannot any more: {outcome}. Put it "
                "back as it was, and go on with --resume."
            )
        return outcome.pixels
