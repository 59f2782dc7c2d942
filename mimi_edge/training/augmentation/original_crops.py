"""Random parts of the original images, decoded anew for each step: a small part is as sharp as the photograph."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from mimi_edge.images.fitted import Part
from mimi_edge.images.on_demand import OnDemand
from mimi_edge.training.augmentation.crops import ASPECT
from mimi_edge.training.batches import Place, generator_for
from mimi_edge.training.read_ahead import Bringer
from mimi_edge.training.rows import Rows


@dataclass(frozen=True)
class _Wanted:
    """The parts of some images at one place of a run."""

    positions: tuple[int, ...]
    rows: Rows
    place: Place


class OriginalCrops:
    """As torchvision's RandomResizedCrop, of images that lie in files; place and seed alone decide what is drawn.

    A part has the shape of the images that the backbone sees, but for a factor of up to 4 / 3, where the original has
    room for it.

    Args:
        originals: of a split.
        least_area: of a part, as a share of its image.
        seed: of the run.
        device: where they are wanted.
    """

    def __init__(self, originals: OnDemand, least_area: float, seed: int, device: torch.device) -> None:
        self._originals, self._least_area, self._seed = originals, least_area, seed
        self._bringer = Bringer[_Wanted](self._read, device)

    def coming(self, batches: Iterable[tuple[Tensor, Rows]], first: Place) -> None:
        """Says which images, int64 [b], of which rows an epoch is going to ask for from a place on, batch by batch."""
        self._bringer.coming(
            _Wanted(tuple(index.tolist()), rows, Place(first.round, first.epoch, first.step + number))
            for number, (index, rows) in enumerate(batches)
        )

    def at(self, index: Tensor, rows: Rows, place: Place) -> Tensor:
        """Parts, uint8 [b, 3, H, W], of images int64 [b] that are these rows of a batch."""
        return self._bringer.bring(_Wanted(tuple(index.tolist()), rows, place))

    def _read(self, wanted: _Wanted) -> Tensor:
        place, positions = wanted.place, wanted.positions
        generator = generator_for(self._seed, "original crops", place.round, place.epoch, place.step)
        drawn = wanted.rows.of_batch(torch.rand((wanted.rows.of, 4), generator=generator)).tolist()
        size = self._originals.preprocessing.size
        parts = [partial(part_of, tuple(one), self._least_area, size.width / size.height) for one in drawn]
        return torch.from_numpy(self._originals.parts(positions, parts))


def part_of(drawn: tuple[float, float, float, float], least_area: float, shape: float, width: int, height: int) -> Part:
    """Left, top, right and bottom of a part of an image, in pixels.

    Args:
        drawn: four numbers of 0..1: how large, which shape, how far down, how far right.
        least_area: of a part, as a share of the image.
        shape: width by height that a part should have.
        width: of the image.
        height: of the image.
    """
    area, wide, down, right = drawn
    pixels = (least_area + (1 - least_area) * area) * width * height
    ratio = shape * math.exp((2 * wide - 1) * math.log(ASPECT))
    across, along = min(width, math.sqrt(pixels * ratio)), min(height, math.sqrt(pixels / ratio))
    left, top = right * (width - across), down * (height - along)
    return left, top, left + across, top + along
