"""Images at the size of the backbone, one after the other, read by a few threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mimi_edge.images.copies import digest
from mimi_edge.images.preprocessing import Preprocessing, fit, fit_part
from mimi_edge.images.read_image import UnusableImageError
from mimi_edge.images.splits import Split

MOST_WORKERS = 8
"""Threads; more of them cost memory before they gain time."""
BLOCK = 32
"""Images handed out per worker at a time: an interrupt waits for none of those that have not been begun."""


Part = tuple[float, float, float, float]
"""Left, top, right and bottom in pixels of an image."""
PartOf = Callable[[int, int], Part]
"""Chooses a part of an image by its width and height."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """One image, [H, W, 3], and what stands for its pixels."""

    pixels: NDArray[np.uint8]
    digest: bytes


def fitted_image(split: Split, preprocessing: Preprocessing, index: int) -> Fitted | str:
    """One image, or the reason why there is none."""
    try:
        pixels = fit(split.image(index), preprocessing)
    except UnusableImageError as error:
        return error.reason
    return Fitted(pixels, digest(pixels))


def fitted_part(split: Split, preprocessing: Preprocessing, index: int, part_of: PartOf) -> NDArray[np.uint8] | str:
    """A part of one image, [H, W, 3], or the reason why there is none."""
    try:
        image = split.image(index)
    except UnusableImageError as error:
        return error.reason
    return fit_part(image, part_of(image.width, image.height), preprocessing)


def fitted_images(
    split: Split, preprocessing: Preprocessing, workers: int, first: int = 0
) -> Iterator[tuple[int, Fitted | str]]:
    """Each image from the first on, by index, or the reason why there is none."""

    def decode(index: int) -> Fitted | str:
        return fitted_image(split, preprocessing, index)

    pool = ThreadPoolExecutor(workers)
    try:
        for start in range(first, len(split), BLOCK * workers):
            block = range(start, min(start + BLOCK * workers, len(split)))
            yield from zip(block, pool.map(decode, block), strict=True)
    finally:
        pool.shutdown(cancel_futures=True)


def usable_threads() -> int:
    """As many as this process has processors, up to eight: each holds a whole photograph."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # Not on this system.
        count = os.cpu_count() or 1
    return min(MOST_WORKERS, count)
