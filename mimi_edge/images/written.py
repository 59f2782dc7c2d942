"""Writes down which image is in which split, and takes such a split up again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mimi_edge.documents import FaultyError, typed
from mimi_edge.errors import ConfigError
from mimi_edge.events import Listener, Note
from mimi_edge.images.find_files import listed
from mimi_edge.images.splits import SPLITS, Dataset
from mimi_edge.texts import fault_list

Assignment = dict[str, list[tuple[str, str]]]
"""Origin and class of every image, by split."""


def split_document(dataset: Dataset) -> dict[str, Any]:
    """What a run folder keeps of a dataset so that the same split can be used again.

    Returns:
        Values that JSON can hold: `data`, `seed`, `classes`, and `splits`, where each split is a list of
        [origin, class]; and `left_out`, images by class, where classes were left out.
    """
    left_out = {"left_out": dict(dataset.left_out)} if dataset.left_out else {}
    return left_out | {
        "data": dataset.name,
        "seed": dataset.seed,
        "classes": list(dataset.classes),
        "splits": {
            name: [
                [origin, dataset.classes[label]]
                for origin, label in zip(split.origins, split.labels.tolist(), strict=True)
            ]
            for name, split in dataset.splits.items()
        },
    }


@dataclass(frozen=True)
class WrittenSplit:
    """What `split_document` writes, once it was read and makes sense.

    Attributes:
        data: name of the dataset.
        seed: of the sharing out.
        classes: in the order of the labels.
        splits: [origin, class] of every image, by split.
        left_out: classes that have too few images, and how many; none in splits of earlier releases.
    """

    data: str
    seed: int
    classes: tuple[str, ...]
    splits: Mapping[str, tuple[tuple[str, str], ...]]
    left_out: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.splits.keys() != set(SPLITS) or not 2 <= len(self.classes) == len(set(self.classes)):
            raise ConfigError(f"expected two or more classes, all different, and the splits {', '.join(SPLITS)}")
        entries = [entry for split in SPLITS for entry in self.splits[split]]
        if not {label for _, label in entries} <= set(self.classes):
            raise ConfigError("expected images of the listed classes only")
        if len({origin for origin, _ in entries}) != len(entries):
            raise ConfigError("expected each image once")


def written_split(document: Mapping[str, Any]) -> WrittenSplit:
    """A written split out of JSON, which may have been edited by hand.

    Raises:
        ConfigError: it is none; every fault is named.
    """
    try:
        return typed(document, WrittenSplit, unknown_entries=True)
    except FaultyError as error:
        raise ConfigError(
            f"The written split is damaged:\n{fault_list(error.faults)}\n"
            "Restore it, or start a new run, which makes a new split."
        ) from error


def written_assignment(
    written: WrittenSplit,
    images: Mapping[str, object],
    *,
    skip_missing: bool,
    listener: Listener,
    tells_new: bool = True,
) -> Assignment:
    """The images of each split as they were written down.

    Args:
        written: as `written_split` read it.
        images: what there is now, by origin.
        skip_missing: go on without images that are gone.
        listener: hears of images that are gone, or new.
        tells_new: whether new ones are worth a word; not where the split left some out on purpose.

    Raises:
        ConfigError: images are gone.
    """
    splits = written.splits
    known = {origin for entries in splits.values() for origin, _ in entries}
    gone = sorted(known - images.keys())
    if gone and not skip_missing:
        raise ConfigError(
            f"{len(gone)} of {len(known)} images of the written split are gone: {listed(gone)}. Put them back, "
            "go on without them (--skip-bad-images), or start a new run, which makes a new split."
        )
    if gone:
        listener(Note(f"Left out {len(gone)} images of the written split that are gone: {listed(gone)}."))
    if (new := len(images.keys() - known)) and tells_new:
        listener(Note(f"{new} images are not in the written split: left out. A new run would use them."))
    return {split: [(origin, label) for origin, label in splits[split] if origin in images] for split in SPLITS}
