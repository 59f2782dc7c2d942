"""Loads a dataset from wherever it is: a folder, or one that has a name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mimi_edge.events import Listener, silent
from mimi_edge.images.decode import LabelledImages, copies_in, decode_dataset, decode_split
from mimi_edge.images.limits import limited
from mimi_edge.images.sources.asked import Asked
from mimi_edge.images.sources.find import source_of
from mimi_edge.images.splits import Dataset, Split
from mimi_edge.images.written import split_document

__all__ = [
    "Dataset",
    "LabelledImages",
    "Split",
    "copies_in",
    "decode_dataset",
    "decode_split",
    "load_dataset",
    "split_document",
]


def load_dataset(
    spec: str | Path,
    *,
    seed: int,
    skip_bad_images: bool = False,
    min_images: int = 0,
    listener: Listener = silent,
    split: Mapping[str, Any] | None = None,
    columns: str = "",
    root: str = "",
    download: bool = False,
    limits: Mapping[str, int] | None = None,
) -> Dataset:
    """Finds the images of a dataset and their splits; no image is decoded yet.

    A folder has one folder of images per class, or such folders inside train/, val/ and test/, which may have the
    other names in `SPLIT_NAMES`. Splits that are given are kept. Those that are not are taken from the rest, 15 percent
    of each class for each of val and test. That sharing out depends on the seed and the images' paths inside the folder
    only.

    Args:
        spec: `builtin:digits`, `generated:sprites-location` or the like, a table of images, or a folder.
        seed: of the sharing out.
        skip_bad_images: go on without folders that cannot be opened and without images of a written split that are
            gone; a Note says so.
        min_images: leave out classes that have fewer, in train/ where the data brings its splits; a Note says so. A
            written split has left them out already.
        listener: hears in Notes how the folder was understood.
        split: a written split, as `split_document` made it, to use again instead of sharing out.
        columns: of a table, where its titles are not the usual ones: `path=TITLE,label=TITLE,split=TITLE`.
        root: the folder of named data that has to be fetched once; this user's own if empty.
        download: whether the network may be used for that.
        limits: how many images of some splits are used at most; a written split has been limited already.

    Raises:
        ConfigError: the data cannot be used; every fault that was found is named.
    """
    limits = limits or {}
    asked = Asked(str(spec), seed, skip_bad_images, min_images, listener, split, columns, root, download, limits)
    dataset = source_of(asked.spec).load(asked)
    return limited(dataset, limits, listener) if limits and split is None else dataset
