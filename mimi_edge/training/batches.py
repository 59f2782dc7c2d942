"""Batches from images that lie decoded on the device, in an order that position and seed alone decide."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mimi_edge.images.decode import LabelledImages
from mimi_edge.images.preprocessing import Preprocessing
from mimi_edge.training.edited_model import EditedModel
from mimi_edge.training.ranks import agreed, rows_of, summed
from mimi_edge.training.read_ahead import Index, ReadAhead
from mimi_edge.training.rows import Rows

GPU_SHARE = 0.4
"""Of a GPU's free memory, that the images of a split may take; what needs more is brought there batch by batch."""


@dataclass(frozen=True)
class Place:
    """A step of a run: which training, epoch and batch, each from 0."""

    round: int
    epoch: int
    step: int


class Parts(Protocol):
    """Random parts of images, which place and seed alone decide."""

    def coming(self, batches: Iterable[tuple[Tensor, Rows]], first: Place) -> None:
        """Says which images, int64 [b], of which rows steps will ask for from a place on, batch by batch."""

    def at(self, index: Tensor, rows: Rows, place: Place) -> Tensor:
        """Parts, uint8 [b, 3, H, W] on the device, of images int64 [b] that are these rows of a batch."""
        ...


@dataclass(frozen=True)
class DeviceImages:
    """One split on the device, or on its way there batch by batch.

    Attributes:
        images: uint8 [n, 3, H, W], to be asked for by index.
        labels: int64 [n].
        mean: float32 [3, 1, 1], of values in 0..255.
        std: float32 [3, 1, 1], likewise.
        parts: of the same images, where training steps are to see random parts of the originals.
    """

    images: Tensor | ReadAhead
    labels: Tensor
    mean: Tensor
    std: Tensor
    parts: Parts | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def will_give(self, batches: Iterable[Index]) -> None:
        """Says which images will be asked for next, in which order."""
        if isinstance(self.images, ReadAhead):
            self.images.coming(batches)

    def will_vary(self, batches: Iterable[tuple[Tensor, Rows]], first: Place) -> None:
        """Says which batches, int64 [B], steps will ask for from a place on, and which rows of them."""
        wanted = [(rows.of_batch(index), rows) for index, rows in batches]
        if self.parts is not None:
            self.parts.coming(wanted, first)
        else:
            self.will_give(index for index, _ in wanted)

    def at(self, index: Tensor, rows: Rows, place: Place) -> Tensor:
        """What a step sees of rows of a batch int64 [B], before they are varied on the device: uint8 [b, 3, H, W]."""
        wanted = rows.of_batch(index)
        return self.images[wanted] if self.parts is None else self.parts.at(wanted, rows, place)

    def normalised(self, pixels: Tensor) -> Tensor:
        """What the backbone wants, float32 [B, 3, H, W], of uint8 pixels of that shape."""
        return (pixels.float() - self.mean) / self.std


def on_device(split: LabelledImages, preprocessing: Preprocessing, device: torch.device) -> DeviceImages:
    """Brings a decoded split to the device, once, where it has room; on a CPU images stay where they were decoded."""
    channels = (3, 1, 1)
    return DeviceImages(
        images=_pixels(split, device),
        labels=torch.from_numpy(split.labels).to(device),
        mean=torch.tensor(preprocessing.mean, device=device).reshape(channels) * 255,
        std=torch.tensor(preprocessing.std, device=device).reshape(channels) * 255,
    )


def _pixels(split: LabelledImages, device: torch.device) -> Tensor | ReadAhead:
    if split.on_demand is not None:
        decoded = split.on_demand.decoded
        return ReadAhead(lambda positions: torch.from_numpy(decoded(positions)), len(split), device)
    images = torch.from_numpy(split.images).permute(0, 3, 1, 2).contiguous()
    if device.type == "cuda" and images.numel() > torch.cuda.mem_get_info(device)[0] * GPU_SHARE:
        return ReadAhead(lambda positions: images[torch.tensor(positions)], len(split), device)
    return images.to(device)


def seed_for(seed: int, *place: int | str) -> int:
    """A seed for one purpose at one place, the same whenever it is asked for."""
    return zlib.crc32(repr((seed, *place)).encode())


def generator_for(seed: int, *place: int | str) -> torch.Generator:
    """A generator for one purpose at one place, the same whenever it is asked for."""
    return torch.Generator().manual_seed(seed_for(seed, *place))


def epoch_order(count: int, seed: int, place: Place) -> Tensor:
    """A permutation of all images, int64 [n], for an epoch."""
    return torch.randperm(count, generator=generator_for(seed, "order", place.round, place.epoch))


def balanced_order(labels: Tensor, seed: int, place: Place) -> Tensor:
    """As many positions as there are images, int64 [n], of which each class has an even share, for an epoch.

    An image of a small class comes again only once all of its class have come; which images of a large class are left
    out, and which classes have one more where n cannot be shared evenly, is another choice every epoch.

    Args:
        labels: int64 [n], of all images.
        seed: of the run.
        place: whose epoch it is.
    """
    generator = generator_for(seed, "balance", place.round, place.epoch)
    members = [(labels == label).nonzero().flatten() for label in labels.unique()]
    share, over = divmod(len(labels), len(members))
    with_one_more = set(torch.randperm(len(members), generator=generator)[:over].tolist())
    drawn = [_in_turns(one, share + (number in with_one_more), generator) for number, one in enumerate(members)]
    return torch.cat(drawn)[torch.randperm(len(labels), generator=generator)]


def _in_turns(members: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """So many of the members: all of them in some order, again and again."""
    turns = -(-count // len(members))
    return torch.cat([members[torch.randperm(len(members), generator=generator)] for _ in range(turns)])[:count]


def training_order(images: DeviceImages, seed: int, place: Place, *, balance: bool) -> Tensor:
    """Positions of the images of an epoch in their order, int64 [n]."""
    if balance:
        return balanced_order(images.labels.cpu(), seed, place)
    return epoch_order(len(images), seed, place)


@dataclass(frozen=True)
class PrefixTokens:
    """What the frozen beginning of the backbone makes of every image, computed once a round.

    Attributes:
        tokens: [n, ...] what the rest of a pass needs of each image.
        start: where that rest starts.
    """

    tokens: Tensor
    start: int


def prefix_tokens(
    model: EditedModel, images: DeviceImages, batch_size: int, autocast: torch.autocast, limit_bytes: int
) -> PrefixTokens | None:
    """Runs the frozen prefix over all images, if that saves a block and its tokens fit into memory.

    Args:
        model: whose prefix runs.
        images: n of them.
        batch_size: images at once.
        autocast: the precision of training.
        limit_bytes: the most that the tokens of all images may take.
    """
    start = model.start
    if model.blocks_before(start) == 0:
        return None

    def run(first: int) -> Tensor:
        with autocast:
            return model.run_before(images.normalised(images.images[first : first + batch_size]), start)

    some = run(0)
    if not agreed(some.element_size() * some[0].numel() * len(images) <= limit_bytes):
        return None
    tokens, rows = some.new_zeros((len(images), *some.shape[1:])), rows_of(len(images))
    firsts = range(rows.start, rows.stop, batch_size)
    images.will_give(slice(first, first + batch_size) for first in firsts if first)
    for first in firsts:
        own = slice(first, min(first + batch_size, rows.stop))
        tokens[own] = (run(first) if first else some)[: own.stop - first]
    summed(tokens.view(torch.uint8))  # what others computed is added to zeros
    return PrefixTokens(tokens, start)
