"""Decodes all images of a split into one array, with a few threads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mimi_edge.errors import ConfigError
from mimi_edge.events import Advance, Listener, Note, silent
from mimi_edge.images.copies import Copies, SeenImage, find_copies
from mimi_edge.images.find_files import listed
from mimi_edge.images.fitted import Fitted, fitted_images, usable_threads
from mimi_edge.images.free_room import free_memory_bytes
from mimi_edge.images.preprocessing import Preprocessing
from mimi_edge.images.splits import Dataset, Labels, Split
from mimi_edge.tasks.task import SplitAccuracy

PROGRESS_STEPS = 200


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images of a split in memory, with their classes: what is trained on, compared, proved and measured.

    Attributes:
        images: [n, S, S, 3], as `fit` makes them; in memory one channel lies after the other, as training wants them.
        labels: [n] indices into the dataset's classes.
        skipped: origins of the images that could not be used, in order.
        digests: what stands for the pixels of each image; empty where nobody asked what they are.
        name: of the split.
        classes: names of what labels stand for; empty where they are not known.
        source: where they were read; None where that is not known.
        expected: the accuracy that a task file states for this split; None where it states none.
    """

    images: NDArray[np.uint8]
    labels: Labels
    skipped: tuple[str, ...] = ()
    digests: tuple[bytes, ...] = ()
    name: str = "test"
    classes: tuple[str, ...] = ()
    source: Split | None = None
    expected: SplitAccuracy | None = None

    def __len__(self) -> int:
        return len(self.labels)


def decode_split(
    split: Split,
    preprocessing: Preprocessing,
    *,
    skip_bad_images: bool = False,
    listener: Listener = silent,
    workers: int | None = None,
) -> LabelledImages:
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
    images = _room(len(split), preprocessing.size)
    good: list[int] = []
    digests: list[bytes] = []
    bad: dict[int, str] = {}
    for index, outcome in _progress(fitted_images(split, preprocessing, workers or usable_threads()), split, listener):
        if isinstance(outcome, str):
            bad[index] = outcome
        else:
            images[len(good)] = outcome.pixels
            digests.append(outcome.digest)
            good.append(index)
    if bad and not skip_bad_images:
        raise ConfigError(_bad_images_message(split, bad))
    if bad:
        _require_all_classes(split, good)
        listener(Note(f"Skipped {len(bad)} of {len(split)} {split.name} images: {listed(_origins(split, bad))}."))
    return LabelledImages(
        images[: len(good)],
        split.labels[good],
        _origins(split, bad),
        tuple(digests),
        name=split.name,
        classes=split.classes,
        source=split,
    )


def decode_dataset(
    dataset: Dataset,
    preprocessing: Preprocessing,
    *,
    skip_bad_images: bool = False,
    listener: Listener = silent,
) -> dict[str, LabelledImages]:
    """Decodes all splits; bad images of all of them come in one error, and images that are the same in Notes.

    Raises:
        ConfigError: as of `decode_split`.
    """
    decoded: dict[str, LabelledImages] = {}
    faults = []
    for name, split in dataset.splits.items():
        outcome = _decoded_or_fault(split, preprocessing, skip_bad_images, listener)
        if isinstance(outcome, str):
            faults.append(outcome)
        else:
            decoded[name] = outcome
    if faults:
        raise ConfigError("\n".join(faults))
    for sentence in copies_in(dataset, decoded).sentences():
        listener(Note(sentence))
    return decoded


def copies_in(dataset: Dataset, decoded: Mapping[str, LabelledImages]) -> Copies:
    """Which images of a dataset are the same, once they are decoded."""
    return find_copies({name: _seen(dataset.splits[name], part) for name, part in decoded.items()})


def _seen(split: Split, decoded: LabelledImages) -> list[SeenImage]:
    skipped = set(decoded.skipped)
    origins = (origin for origin in split.origins if origin not in skipped)
    return [
        SeenImage(origin, split.classes[label], digest)
        for origin, label, digest in zip(origins, decoded.labels.tolist(), decoded.digests, strict=True)
    ]


def _decoded_or_fault(
    split: Split, preprocessing: Preprocessing, skip_bad_images: bool, listener: Listener
) -> LabelledImages | str:
    try:
        return decode_split(split, preprocessing, skip_bad_images=skip_bad_images, listener=listener)
    except ConfigError as error:
        return str(error)


def _room(count: int, size: int) -> NDArray[np.uint8]:
    """Room for images [n, S, S, 3], laid out as [n, 3, S, S]: training takes it as it is, without a second copy."""
    return np.empty((count, 3, size, size), np.uint8).transpose(0, 2, 3, 1)


def _progress(
    outcomes: Iterable[tuple[int, Fitted | str]], split: Split, listener: Listener
) -> Iterator[tuple[int, Fitted | str]]:
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


def _origins(split: Split, bad: Iterable[int]) -> tuple[str, ...]:
    return tuple(split.origin(index) for index in bad)


def _require_all_classes(split: Split, good: Sequence[int]) -> None:
    emptied = [split.classes[label] for label in np.setdiff1d(split.labels, split.labels[list(good)])]
    if emptied:
        raise ConfigError(
            f"Without its bad images the {split.name} split has none left of {listed(emptied)}. "
            "Add good images to these classes, or remove the classes."
        )


def _require_memory(split: Split, preprocessing: Preprocessing) -> None:
    """Refuses what would be killed half-way: the system promises memory first and looks for it later."""
    needed, free = len(split) * preprocessing.size**2 * 3, free_memory_bytes()
    if free is not None and needed > free:
        raise ConfigError(
            f"The {len(split)} {split.name} images need {needed / 1e9:.1f} GB of memory at {preprocessing.size} x "
            f"{preprocessing.size} pixels; {free / 1e9:.1f} GB are free. Use fewer images, or more memory."
        )
