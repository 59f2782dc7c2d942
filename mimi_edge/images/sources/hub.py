"""Data sets of the Hugging Face hub, by its library `datasets`: `--data hf:cifar10`, or `hf:owner/name`.

Which column has images and which has classes is told by their types; where there are several, `--data-columns` says
which. A configuration of the data set is named behind a colon: `hf:owner/name:configuration`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from mimi_edge.errors import ConfigError
from mimi_edge.images.folders import SPLIT_NAMES
from mimi_edge.images.read_image import as_rgb
from mimi_edge.images.sources.asked import Asked
from mimi_edge.images.sources.columns import asked_columns
from mimi_edge.images.sources.divided import dataset_of
from mimi_edge.images.sources.names import HUB_PREFIX, bare_name
from mimi_edge.images.splits import Dataset, Split
from mimi_edge.texts import excerpt


@dataclass(frozen=True, eq=False)
class Rows:
    """Reads images from a column, by index."""

    part: Any
    column: str
    name: str

    def __call__(self, index: int) -> Image.Image:
        """The image, in mode RGB."""
        return as_rgb(self.part[index][self.column], f"{self.name}/{index}")


def takes(spec: str) -> bool:
    """Whether it is one of these."""
    return spec.startswith(HUB_PREFIX)


def classes(asked: Asked) -> tuple[str, ...]:
    """Of the data set; errors as of `load`."""
    return load(asked).classes


def load(asked: Asked) -> Dataset:
    """The data set; splits that it does not bring are taken from train.

    Raises:
        ConfigError: it is not there, cannot be fetched, or has no columns of images and classes.
    """
    name = bare_name(asked.spec)
    parts = _parts(asked, _opened(asked))
    image, label = _columns(asked, next(iter(parts.values())).features)
    labels, names = _labels({split: part[label] for split, part in parts.items()}, parts["train"].features[label])
    splits = {
        split: Split(
            name=split,
            classes=names,
            labels=labels[split],
            origins=tuple(f"{name}/{split}/{index}" for index in range(len(part))),
            read=Rows(part, image, f"{name}/{split}"),
        )
        for split, part in parts.items()
    }
    return dataset_of(name.partition(":")[0].rpartition("/")[2], names, splits, asked)


def _opened(asked: Asked) -> Mapping[str, Any]:
    import datasets

    name, _, configuration = bare_name(asked.spec).partition(":")
    root = str(asked.root_of("hf")) if asked.root else None
    try:
        with _network(datasets, allowed=asked.download):
            found: Mapping[str, Any] = datasets.load_dataset(name, configuration or None, cache_dir=root)
    except Exception as error:  # of a dozen libraries below, each with its own
        raise ConfigError(_not_there(asked, error)) from error
    return found


@contextmanager
def _network(datasets: Any, *, allowed: bool) -> Iterator[None]:
    """Meanwhile the library stays on this machine, unless it may leave it."""
    import huggingface_hub.constants as hub

    before = datasets.config.HF_HUB_OFFLINE, hub.HF_HUB_OFFLINE
    if not allowed:
        datasets.config.HF_HUB_OFFLINE = hub.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE, hub.HF_HUB_OFFLINE = before


def _not_there(asked: Asked, error: Exception) -> str:
    said = " ".join(str(error).split()) or type(error).__name__
    if asked.download:
        return f"{asked.spec} cannot be fetched: {said}"
    return (
        f"{asked.spec} is not on this machine ({said}). Give --download to fetch it, which needs a network, or "
        "--data-root with the folder that the library datasets keeps it in."
    )


def _parts(asked: Asked, found: Mapping[str, Any]) -> dict[str, Any]:
    known = {SPLIT_NAMES[name.lower()]: part for name, part in found.items() if name.lower() in SPLIT_NAMES}
    if "train" not in known:
        raise ConfigError(f"{asked.spec} has no split train; it has {', '.join(map(excerpt, found))}.")
    return known


def _columns(asked: Asked, features: Mapping[str, Any]) -> tuple[str, str]:
    """The columns of images and of classes: those that were named, or the only ones of their kind."""
    import datasets

    named = asked_columns(asked.columns)
    kinds = {"path": (datasets.Image,), "label": (datasets.ClassLabel,)}
    found = {}
    for part, kind in kinds.items():
        fitting = [named[part]] if part in named else [one for one, has in features.items() if isinstance(has, kind)]
        if len(fitting) != 1 or fitting[0] not in features:
            raise ConfigError(
                f"{asked.spec} has the columns {', '.join(map(excerpt, features))}: which of them has "
                f"{'images' if part == 'path' else 'classes'} is not plain. Name both: "
                "--data-columns path=COLUMN,label=COLUMN"
            )
        found[part] = fitting[0]
    if not isinstance(features[found["path"]], datasets.Image):
        raise ConfigError(f"The column {excerpt(found['path'])} of {asked.spec} has no images.")
    return found["path"], found["label"]


def _labels(values: Mapping[str, Any], feature: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Indices into the names of classes, and these: the data set's own, or the texts and numbers in the column."""
    columns = {split: list(column) for split, column in values.items()}
    if names := getattr(feature, "names", None):
        return {split: np.asarray(column, np.int64) for split, column in columns.items()}, tuple(names)
    texts = {split: [str(value) for value in column] for split, column in columns.items()}
    found = sorted(set().union(*texts.values()))
    index = {text: place for place, text in enumerate(found)}
    return {split: np.array([index[one] for one in column], np.int64) for split, column in texts.items()}, tuple(found)
