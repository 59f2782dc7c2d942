"""Writes down which image is in which split, and takes such a split up again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mimi_edge.errors import ConfigError
from mimi_edge.events import Listener, Note
from mimi_edge.images.finding import listed
from mimi_edge.images.splits import SPLITS, Dataset

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


def written_classes(document: Mapping[str, Any]) -> tuple[str, ...]:
    """The classes of a written split, in its order."""
    return tuple(document["classes"])


def written_left_out(document: Mapping[str, Any]) -> dict[str, int]:
    """The classes that a written split leaves out for having too few images; none in those of earlier releases.

    Raises:
        ConfigError: the document is not a written split.
    """
    _require_document(document)
    return dict(document.get("left_out", {}))


def written_assignment(
    document: Mapping[str, Any], images: Mapping[str, Path], *, skip_missing: bool, listener: Listener
) -> Assignment:
    """The images of each split as they were written down.

    Args:
        document: as `split_document` made it.
        images: what there is now, by origin.
        skip_missing: go on without images that are gone.
        listener: hears of images that are gone, or new.

    Raises:
        ConfigError: the document is not a written split, or images are gone.
    """
    _require_document(document)
    splits: Mapping[str, list[tuple[str, str]]] = document["splits"]
    known = {origin for entries in splits.values() for origin, _ in entries}
    gone = sorted(known - images.keys())
    if gone and not skip_missing:
        raise ConfigError(
            f"{len(gone)} of {len(known)} images of the written split are gone: {listed(gone)}. Put them back, "
            "go on without them (--skip-bad-images), or start a new run, which makes a new split."
        )
    if gone:
        listener(Note(f"Left out {len(gone)} images of the written split that are gone: {listed(gone)}."))
    if new := len(images.keys() - known):
        listener(Note(f"{new} images are not in the written split: left out. A new run would use them."))
    return {split: [(origin, label) for origin, label in splits[split] if origin in images] for split in SPLITS}


def _require_document(document: Mapping[str, Any]) -> None:
    """Checks the form of what may have been edited by hand."""
    try:
        classes = document["classes"]
        entries = [(origin, label) for split in SPLITS for origin, label in document["splits"][split]]
        sound = (
            len(set(classes)) == len(classes) >= 2
            and isinstance(document["seed"], int)
            and all(isinstance(count, int) for count in document.get("left_out", {}).values())
            and document["splits"].keys() == set(SPLITS)
            and all(isinstance(origin, str) for origin, _ in entries)
            and {label for _, label in entries} <= set(classes)
            and len({origin for origin, _ in entries}) == len(entries)
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        sound = False
    if not sound:
        raise ConfigError(
            "The written split is damaged: expected `seed`, `classes`, and for train, val and test lists of "
            "[image, class], each image once. Restore it, or start a new run, which makes a new split."
        )
