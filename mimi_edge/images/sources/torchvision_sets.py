"""Data sets that torchvision knows where to find and how to read: `--data torchvision:Flowers102`.

The splits are those of its authors. A row says which of torchvision's arguments give which split; what no row says is
that a set has none, so that train holds everything and val and test are taken from it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
from PIL import Image

from mimi_edge.errors import ConfigError
from mimi_edge.images.read_image import as_rgb, shown
from mimi_edge.images.sources.asked import Asked
from mimi_edge.images.sources.divided import dataset_of
from mimi_edge.images.sources.names import TORCHVISION_PREFIX, bare_name
from mimi_edge.images.splits import Dataset, Labels, Split
from mimi_edge.texts import excerpt

Arguments = Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """A data set.

    Attributes:
        name: of its class in torchvision.
        splits: what to ask for to get each split; only train where there are none.
    """

    name: str
    splits: Mapping[str, Arguments]


def _by_split(name: str, **splits: str) -> Row:
    return Row(name, {ours: {"split": theirs} for ours, theirs in splits.items()})


def _by_train(name: str) -> Row:
    return Row(name, {"train": {"train": True}, "test": {"train": False}})


def _undivided(name: str) -> Row:
    return Row(name, {"train": {}})


ROWS = (
    *map(_by_train, ("CIFAR10", "CIFAR100", "FashionMNIST", "KMNIST", "MNIST", "USPS")),
    *map(_undivided, ("Caltech101", "Caltech256", "EuroSAT", "SEMEION", "SUN397")),
    *(_by_split(name, train="train", test="test") for name in ("Food101", "GTSRB", "STL10", "StanfordCars", "SVHN")),
    *(_by_split(name, train="train", val="val", test="test") for name in ("DTD", "FGVCAircraft", "Flowers102")),
    _by_split("PCAM", train="train", val="val", test="test"),
    _by_split("RenderedSST2", train="train", val="val", test="test"),
    _by_split("Country211", train="train", val="valid", test="test"),
    _by_split("OxfordIIITPet", train="trainval", test="test"),
    # Labels of the test split are not public; as VTAB does, val is what is tested on.
    _by_split("CLEVRClassification", train="train", test="val"),
    _by_split("Imagenette", train="train", test="val"),
    _by_split("ImageNet", train="train", test="val"),
)
SETS = {row.name: row for row in ROWS}
NOT_IN_NAMES = re.compile(r"[\x00-\x1f\x7f]+")
PUBLIC_LABELS = ("targets", "labels", "y", "_labels")
"""Attributes that torchvision's classes keep labels in, the first that is there."""
LISTED = ("_samples", "samples")
"""Likewise, of pairs of a path and a label."""


@dataclass(frozen=True, eq=False)
class Items:
    """Reads images of one of torchvision's data sets, by index."""

    found: Any
    name: str

    def __call__(self, index: int) -> Image.Image:
        """The image, in mode RGB."""
        return as_rgb(self.found[index][0], f"{self.name}/{index}")


def takes(spec: str) -> bool:
    """Whether it is one of these."""
    return spec.startswith(TORCHVISION_PREFIX)


def classes(asked: Asked) -> tuple[str, ...]:
    """Of the data set; errors as of `load`."""
    return load(asked).classes


def load(asked: Asked) -> Dataset:
    """The data set; splits that it does not bring are taken from train.

    Raises:
        ConfigError: there is none of that name, it is not there, or cannot be fetched.
    """
    row, found = _opened(asked)
    labels = {split: _labels(one) for split, one in found.items()}
    in_use = np.unique(np.concatenate(list(labels.values())))  # CLEVR's counts begin at three
    names = _class_names(found["train"], int(in_use[-1]) + 1)
    kept = tuple(names[label] for label in in_use)
    splits = {
        split: Split(
            name=split,
            classes=kept,
            labels=np.searchsorted(in_use, labels[split]),
            origins=tuple(f"{row.name}/{split}/{index}" for index in range(len(one))),
            read=Items(one, f"{row.name}/{split}"),
        )
        for split, one in found.items()
    }
    return dataset_of(row.name, kept, splits, asked)


def _opened(asked: Asked) -> tuple[Row, dict[str, Any]]:
    from torchvision import datasets

    row = _row(bare_name(asked.spec))
    root = asked.root_of("torchvision")
    if asked.download:
        root.mkdir(parents=True, exist_ok=True)
    return row, {
        split: _fetched(getattr(datasets, row.name), root, arguments, asked) for split, arguments in row.splits.items()
    }


def _row(name: str) -> Row:
    by_lower = {known.lower(): row for known, row in SETS.items()}
    if (row := by_lower.get(name.lower())) is None:
        raise ConfigError(
            f"No data set of torchvision's called {excerpt(name)} is known here. There are "
            f"{', '.join(f'{TORCHVISION_PREFIX}{known}' for known in sorted(SETS))}."
        )
    return row


def _fetched(kind: Any, root: Path, arguments: Arguments, asked: Asked) -> Any:
    """Opens a split, fetching it first where that is allowed and it is not there."""
    can_fetch = {} if kind.__name__ == "ImageNet" else {"download": asked.download}
    try:
        return kind(str(root), **arguments, **can_fetch)
    except (URLError, ConnectionError, TimeoutError) as error:
        raise ConfigError(
            f"{asked.spec} cannot be fetched: {getattr(error, 'reason', error)}. Try again with a network, or put it "
            f"into {shown(root)} as torchvision lays it out."
        ) from error
    except (RuntimeError, OSError) as error:
        raise ConfigError(_not_there(kind, root, asked, error)) from error


def _not_there(kind: Any, root: Path, asked: Asked, error: Exception) -> str:
    said = str(error).splitlines()[0].rstrip(".")
    if "install" in said:  # a library of a set's own
        return f"{asked.spec} cannot be read: {said}"
    if asked.download or kind.__name__ == "ImageNet":
        return (
            f"{asked.spec} cannot be read in {shown(root)}: {said}. Remove what is damaged there and try again, or put "
            "it there as torchvision lays it out."
        )
    return (
        f"{asked.spec} is not in {shown(root)} ({said}). Give --download to fetch it, which needs a network, or "
        "--data-root with the folder that it is in."
    )


def _labels(found: Any) -> Labels:
    """Of all images; only where they stand nowhere are the images opened for them."""
    for name in PUBLIC_LABELS:
        if (values := getattr(found, name, None)) is not None and len(values) == len(found):
            return np.asarray(values, np.int64)
    for name in LISTED:
        if (values := getattr(found, name, None)) is not None and len(values) == len(found):
            return np.array([label for _, label in values], np.int64)
    return np.array([int(found[index][1]) for index in range(len(found))], np.int64)


def _class_names(train: Any, count: int) -> tuple[str, ...]:
    """At least so many, as torchvision has them, all different; numbers where it has none."""
    named = getattr(train, "classes", None) or getattr(train, "categories", None)
    if named is None or len(named) < count:
        return tuple(f"{number:0{len(str(count - 1))}d}" for number in range(count))
    first = [one if isinstance(one, str) else one[0] for one in named]
    tidy = [NOT_IN_NAMES.sub(" ", text).strip() or f"class {place}" for place, text in enumerate(first)]
    # ImageNet has two kinds of crane.
    return tuple(f"{text} ({place})" if text in tidy[:place] else text for place, text in enumerate(tidy))
