"""Decodes all images of a split into one array, with a few threads."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mimi_edge.errors import ConfigError
from mimi_edge.events import Advance, Listener, Note, silent
from mimi_edge.images.finding import listed
from mimi_edge.images.preprocessing import Preprocessing, fit
from mimi_edge.images.reading import UnusableImageError
from mimi_edge.images.splits import Dataset, Labels, Split

MOST_WORKERS = 8
"""Threads; each holds a whole photograph, so more of them cost memory before they gain time."""
BLOCK = 32
"""Images handed out per worker at a time: an interrupt waits for none of those that have not been begun."""
PROGRESS_STEPS = 200


@dataclass(frozen=True, eq=False)
class DecodedSplit:
    """A split in memory.

    Attributes:
        images: [n, S, S, 3], as `fit` makes them.
        labels: [n] indices into the dataset's classes.
        skipped: origins of the images that could not be used, in order.
    """

    images: NDArray[np.uint8]
    labels: Labels
    skipped: tuple[str, ...]


def decode_split(
    split: Split,
    preprocessing: Preprocessing,
    *,
    skip_bad_images: bool = False,
    listener: Listener = silent,
    workers: int | None = None,
) -> DecodedSplit:
    """Reads every image of a split and makes it the backbone's size, in the order of the split.

    Args:
        split: of a dataset.
        preprocessing: of the task; S is its size.
        skip_bad_images: go on without images that cannot be used, and say so.
        listener: hears of the progress.
        workers: threads; as many as there are processors, up to eight, if None.

    Raises:
        ConfigError: images cannot be used (all are counted, the first ten named); no image of a class is left; or
            the split needs more memory than there is.
    """
    _require_memory(split, preprocessing)
    images = np.empty((len(split), preprocessing.size, preprocessing.size, 3), np.uint8)
    bad: dict[int, str] = {}
    for index, outcome in _progress(_outcomes(split, preprocessing, workers or _workers()), split, listener):
        if isinstance(outcome, str):
            bad[index] = outcome
        else:
            images[index] = outcome
    if not bad:
        return DecodedSplit(images, split.labels, ())
    if not skip_bad_images:
        raise ConfigError(_bad_images_message(split, bad))
    return _without(split, images, bad, listener)


def decode_dataset(
    dataset: Dataset,
    preprocessing: Preprocessing,
    *,
    skip_bad_images: bool = False,
    listener: Listener = silent,
) -> dict[str, DecodedSplit]:
    """Decodes all splits; bad images of all of them come in one error.

    Raises:
        ConfigError: as of `decode_split`.
    """
    decoded: dict[str, DecodedSplit] = {}
    faults = []
    for name, split in dataset.splits.items():
        outcome = _decoded_or_fault(split, preprocessing, skip_bad_images, listener)
        if isinstance(outcome, str):
            faults.append(outcome)
        else:
            decoded[name] = outcome
    if faults:
        raise ConfigError("\n".join(faults))
    return decoded


def _decoded_or_fault(
    split: Split, preprocessing: Preprocessing, skip_bad_images: bool, listener: Listener
) -> DecodedSplit | str:
    try:
        return decode_split(split, preprocessing, skip_bad_images=skip_bad_images, listener=listener)
    except ConfigError as error:
        return str(error)


def _outcomes(
    split: Split, preprocessing: Preprocessing, workers: int
) -> Iterator[tuple[int, NDArray[np.uint8] | str]]:
    """Each image by index, or the reason why there is none."""

    def decode(index: int) -> NDArray[np.uint8] | str:
        try:
            return fit(split.image(index), preprocessing)
        except UnusableImageError as error:
            return error.reason

    pool = ThreadPoolExecutor(workers)
    try:
        for start in range(0, len(split), BLOCK * workers):
            block = range(start, min(start + BLOCK * workers, len(split)))
            yield from zip(block, pool.map(decode, block), strict=True)
    finally:
        pool.shutdown(cancel_futures=True)


def _progress(
    outcomes: Iterable[tuple[int, NDArray[np.uint8] | str]], split: Split, listener: Listener
) -> Iterator[tuple[int, NDArray[np.uint8] | str]]:
    stage, total = f"reading {split.name} images", len(split)
    every = max(1, total // PROGRESS_STEPS)
    listener(Advance(stage, 0, total))
    for index, outcome in outcomes:
        yield index, outcome
        if (index + 1) % every == 0 or index + 1 == total:
            listener(Advance(stage, index + 1, total))


def _bad_images_message(split: Split, bad: dict[int, str]) -> str:
    named = [f"  - {split.origin(index)}: {reason}" for index, reason in list(bad.items())[:10]]
    more = [f"  - and {len(bad) - 10} more"] if len(bad) > 10 else []
    return "\n".join(
        [
            f"{len(bad)} of {len(split)} {split.name} images cannot be used:",
            *named,
            *more,
            "Repair or remove them, or go on without them: --skip-bad-images",
        ]
    )


def _without(split: Split, images: NDArray[np.uint8], bad: dict[int, str], listener: Listener) -> DecodedSplit:
    skipped = tuple(split.origin(index) for index in bad)
    good = np.delete(np.arange(len(split)), list(bad))
    emptied = [split.classes[label] for label in np.setdiff1d(split.labels, split.labels[good])]
    if emptied:
        raise ConfigError(
            f"Without its bad images the {split.name} split has none left of {listed(emptied)}. "
            "Add good images to these classes, or remove the classes."
        )
    listener(Note(f"Skipped {len(skipped)} of {len(split)} {split.name} images: {listed(skipped)}."))
    return DecodedSplit(images[good], split.labels[good], skipped)


def _workers() -> int:
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # Not on this system.
        count = os.cpu_count() or 1
    return min(MOST_WORKERS, count)


def _require_memory(split: Split, preprocessing: Preprocessing) -> None:
    """Refuses what would be killed half-way: the system promises memory first and looks for it later."""
    needed, free = len(split) * preprocessing.size**2 * 3, _free_memory_bytes()
    if free is not None and needed > free:
        raise ConfigError(
            f"The {len(split)} {split.name} images need {needed / 1e9:.1f} GB of memory at {preprocessing.size} x "
            f"{preprocessing.size} pixels; {free / 1e9:.1f} GB are free. Use fewer images, or more memory."
        )


def _free_memory_bytes() -> int | None:
    """Memory that can be had without swapping, where the system tells."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError, IndexError):
        return None
