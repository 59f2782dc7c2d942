"""Decodes all images of a split into one array, in memory or in a file of the cache, with a few threads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mimi_edge.caches import default_cache
from mimi_edge.errors import ConfigError
from mimi_edge.events import Advance, Listener, Note, silent
from mimi_edge.free_memory import free_memory_bytes
from mimi_edge.images.copies import Copies, SeenImage, find_copies
from mimi_edge.images.find_files import listed
from mimi_edge.images.fitted import Fitted, fitted_image, fitted_images, usable_threads
from mimi_edge.images.free_room import AUTO, FILES, MAPPED, MEMORY, is_small, place_for
from mimi_edge.images.image_size import ImageSize
from mimi_edge.images.mapped import FOLDER, Entry, Kept, entry_of, kept_on_disk
from mimi_edge.images.on_demand import OnDemand
from mimi_edge.images.preprocessing import Preprocessing
from mimi_edge.images.splits import Dataset, Labels, Split
from mimi_edge.tasks.task import SplitAccuracy
from mimi_edge.texts import fault_list

PROGRESS_STEPS = 200


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images of a split in memory, with their classes: what is trained on, compared, proved and measured.

    Attributes:
        images: [n, H, W, 3], as `fit` makes them; in memory one channel lies after the other, as training wants them;
            none where they are decoded on demand.
        labels: [n] indices into the dataset's classes.
        skipped: origins of the images that could not be used, in order.
        digests: what stands for the pixels of each image; empty where nobody asked what they are.
        name: of the split.
        classes: names of what labels stand for; empty where they are not known.
        source: where they were read; None where that is not known.
        expected: the accuracy that a task file states for this split; None where it states none.
        on_demand: decodes them when they are wanted, where they are kept nowhere.
    """

    images: NDArray[np.uint8]
    labels: Labels
    skipped: tuple[str, ...] = ()
    digests: tuple[bytes, ...] = ()
    name: str = "test"
    classes: tuple[str, ...] = ()
    source: Split | None = None
    expected: SplitAccuracy | None = None
    on_demand: OnDemand | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def originals(self, preprocessing: Preprocessing) -> OnDemand | None:
        """The same images where they were read, by the same positions; None where that is not known."""
        if self.on_demand is not None or self.source is None:
            return self.on_demand
        skipped = set(self.skipped)
        good = tuple(index for index, origin in enumerate(self.source.origins) if origin not in skipped)
        return OnDemand(self.source, preprocessing, good)


def decode_split(
    split: Split,
    preprocessing: Preprocessing,
    *,
    skip_bad_images: bool = False,
    listener: Listener = silent,
    workers: int | None = None,
    entry: Entry | None = None,
    on_demand: bool = False,
) -> LabelledImages:
    """Reads every image of a split and makes it the backbone's size, in the order of the split.

    Args:
        split: of a dataset.
        preprocessing: of the task; H and W are its size.
        skip_bad_images: go on without images that cannot be used, and say so.
        listener: hears of the progress.
        workers: threads; as many as there are processors, up to eight, if None.
        entry: of the split in the cache, to keep the images in; they are kept in memory if None.
        on_demand: keep none of them, look at each, and decode it again when it is wanted.

    Raises:
        ConfigError: images cannot be used (all are counted, the first named); no image of a class is left; or
            the split needs more memory than there is.
    """
    outcomes = _Outcomes(split, preprocessing, workers or usable_threads(), listener)
    if on_demand:
        kept = _looked_at(outcomes)
    elif entry is None:
        _require_memory(split, preprocessing)
        kept = _kept_in_memory(outcomes)
    else:
        kept = kept_on_disk(entry, outcomes, outcomes.again, listener)
    good, bad = kept.good, kept.bad
    if bad and not skip_bad_images:
        raise ConfigError(_bad_images_message(split, bad))
    if bad:
        _require_all_classes(split, good)
        listener(Note(f"Skipped {len(bad)} of {len(split)} {split.name} images: {listed(_origins(split, bad))}."))
    return LabelledImages(
        kept.images,
        split.labels[good],
        _origins(split, bad),
        tuple(kept.digests),
        name=split.name,
        classes=split.classes,
        source=split,
        on_demand=OnDemand(split, preprocessing, tuple(good)) if on_demand else None,
    )


def decode_dataset(
    dataset: Dataset,
    preprocessing: Preprocessing,
    *,
    skip_bad_images: bool = False,
    listener: Listener = silent,
    images: str = MEMORY,
    copies: int = 1,
) -> dict[str, LabelledImages]:
    """Decodes all splits; bad images of all of them come in one error, and images that are the same in Notes.

    Args:
        dataset: with its splits.
        preprocessing: of the task.
        skip_bad_images: as of `decode_split`.
        listener: hears of the progress.
        images: one of `mimi_edge.images.free_room.IMAGES`: where they are kept.
        copies: processes on this machine that want them; a file is for all, memory for each.

    Raises:
        ConfigError: as of `decode_split`; or neither memory nor disk have room.
    """
    placed = place_of(dataset, preprocessing, images, copies=copies, listener=listener)
    on_demand = placed.place == FILES
    decoded: dict[str, LabelledImages] = {}
    faults = []
    for name, split in dataset.splits.items():
        outcome = _decoded_or_fault(
            split, preprocessing, skip_bad_images, listener, placed.entries.get(name), on_demand
        )
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
    split: Split,
    preprocessing: Preprocessing,
    skip_bad_images: bool,
    listener: Listener,
    entry: Entry | None,
    on_demand: bool,
) -> LabelledImages | str:
    try:
        return decode_split(
            split,
            preprocessing,
            skip_bad_images=skip_bad_images,
            listener=listener,
            entry=entry,
            on_demand=on_demand,
        )
    except ConfigError as error:
        return str(error)


@dataclass(frozen=True)
class Placed:
    """Where decoded images are kept, and what is to be decoded for that.

    Attributes:
        place: MEMORY, MAPPED or FILES.
        entries: of the cache, by split, where that is the place; else none.
        to_decode: images, of all splits: all that a file of the cache does not hold already.
    """

    place: str
    entries: Mapping[str, Entry]
    to_decode: int


def place_of(
    dataset: Dataset, preprocessing: Preprocessing, images: str, *, copies: int = 1, listener: Listener = silent
) -> Placed:
    """Where `decode_dataset` keeps images: as `place_for` says, but small data is not worth a look for room.

    Raises:
        ConfigError: as of `place_for`.
    """
    count = sum(len(split) for split in dataset.splits.values())
    needed = count * preprocessing.size.area * 3
    if images in (MEMORY, AUTO) and is_small(needed * copies):
        return Placed(MEMORY, {}, count)
    cache = default_cache() / FOLDER
    entries = {name: entry_of(split, preprocessing, cache) for name, split in dataset.splits.items()}
    missing = sum(entry.missing_bytes for entry in entries.values())
    place = place_for(images, needed, missing, cache, listener, copies=copies)
    if place != MAPPED:
        return Placed(place, {}, count)
    return Placed(place, entries, sum(entry.missing_images for entry in entries.values()))


@dataclass(frozen=True, eq=False)
class _Outcomes:
    """Decodes the images of a split from an index on, or one alone."""

    split: Split
    preprocessing: Preprocessing
    workers: int
    listener: Listener

    def __call__(self, first: int) -> Iterator[tuple[int, Fitted | str]]:
        found = fitted_images(self.split, self.preprocessing, self.workers, first)
        return _progress(found, self.split, self.listener, first)

    def again(self, index: int) -> Fitted | str:
        return fitted_image(self.split, self.preprocessing, index)


def _kept_in_memory(outcomes: _Outcomes) -> Kept:
    kept = Kept(_room(len(outcomes.split), outcomes.preprocessing.size))
    for index, outcome in outcomes(0):
        if isinstance(outcome, str):
            kept.bad[index] = outcome
        else:
            kept.images[len(kept.good)] = outcome.pixels
            kept.digests.append(outcome.digest)
            kept.good.append(index)
    return replace(kept, images=kept.images[: len(kept.good)])


def _looked_at(outcomes: _Outcomes) -> Kept:
    kept = Kept(_room(0, outcomes.preprocessing.size))
    for index, outcome in outcomes(0):
        if isinstance(outcome, str):
            kept.bad[index] = outcome
        else:
            kept.digests.append(outcome.digest)
            kept.good.append(index)
    return kept


def _room(count: int, size: ImageSize) -> NDArray[np.uint8]:
    """Room for images [n, H, W, 3], laid out as [n, 3, H, W]: training takes it as it is, without a second copy."""
    return np.empty((count, 3, *size), np.uint8).transpose(0, 2, 3, 1)


def _progress(
    outcomes: Iterable[tuple[int, Fitted | str]], split: Split, listener: Listener, first: int
) -> Iterator[tuple[int, Fitted | str]]:
    stage, total = f"reading {split.name} images", len(split)
    every = max(1, total // PROGRESS_STEPS)
    listener(Advance(stage, first, total))
    for index, outcome in outcomes:
        yield index, outcome
        if (index + 1) % every == 0 or index + 1 == total:
            listener(Advance(stage, index + 1, total))


def _bad_images_message(split: Split, bad: dict[int, str]) -> str:
    named = fault_list(f"{split.origin(index)}: {reason}" for index, reason in bad.items())
    return (
        f"{len(bad)} of {len(split)} {split.name} images cannot be used:\n{named}\n"
        "Repair or remove them, or go on without them: --skip-bad-images"
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
    needed, free = len(split) * preprocessing.size.area * 3, free_memory_bytes()
    if free is not None and needed > free:
        raise ConfigError(
            f"The {len(split)} {split.name} images need {needed / 1e9:.1f} GB of memory at "
            f"{preprocessing.size.in_words} pixels; {free / 1e9:.1f} GB are free. Use fewer images, or more memory."
        )
