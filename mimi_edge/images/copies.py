"""Finds images that are the same, within a split and across splits, since accuracy on them says little."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mimi_edge.images.find_files import listed

DIGEST_BYTES = 16
NAMED = 5
"""Pairs of files that a sentence names."""

LEAKAGE_COLUMNS = ("split", "image", "earlier split", "same image there", "same class")
Pair = tuple[str, str]
"""Where an image is from, and where the same one was seen before."""


def digest(pixels: NDArray[np.uint8]) -> bytes:
    """Stands for an image as the backbone sees it; a copy that was saved in another format without loss is the same."""
    return hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=DIGEST_BYTES).digest()


@dataclass(frozen=True)
class SeenImage:
    """One image: where it is from, its class, and what stands for its pixels."""

    origin: str
    label: str
    digest: bytes


@dataclass(frozen=True)
class Copies:
    """Images that are the same as others, pixel for pixel.

    Attributes:
        counts: how many images each split has.
        across: by split and an earlier split, images of the one that are in the other too.
        within: by split, images that are in it more than once and in no earlier one; the first of each is not counted.
        contradicting: images of which the other one is in another class.
    """

    counts: Mapping[str, int]
    across: Mapping[tuple[str, str], tuple[Pair, ...]]
    within: Mapping[str, tuple[Pair, ...]]
    contradicting: tuple[Pair, ...]

    def seen_in(self, split: str) -> dict[str, int]:
        """How many images of each later split are in a split too."""
        return {later: len(pairs) for (later, earlier), pairs in self.across.items() if earlier == split}

    def sentences(self) -> list[str]:
        """What is worth knowing of them; nothing where every image is there once."""
        across = [
            f"{len(pairs):,} of {self.counts[split]:,} {split} images are {earlier} images too: {_named(pairs)}. "
            f"Accuracy on {split} counts what was learnt by heart: remove one of each two."
            for (split, earlier), pairs in self.across.items()
        ]
        within = [
            f"{len(pairs):,} of {self.counts[split]:,} {split} images are copies of others in {split}: {_named(pairs)}."
            for split, pairs in self.within.items()
        ]
        contradicting = (
            [f"{len(self.contradicting):,} of these copies are in different classes: {_named(self.contradicting)}."]
            if self.contradicting
            else []
        )
        return across + within + contradicting


def find_copies(splits: Mapping[str, Sequence[SeenImage]]) -> Copies:
    """Compares all images of all splits with each other; an image counts once, against the earliest split that has it.

    Args:
        splits: in the order train, val, test.
    """
    found = _Found()
    firsts: dict[str, dict[bytes, SeenImage]] = {}
    for split, images in splits.items():
        firsts[split] = {}
        for image in images:
            _look_up(image, split, firsts, found)
            firsts[split].setdefault(image.digest, image)
    return Copies(
        counts={split: len(images) for split, images in splits.items()},
        across={key: tuple(pairs) for key, pairs in found.across.items()},
        within={key: tuple(pairs) for key, pairs in found.within.items()},
        contradicting=tuple(found.contradicting),
    )


def leakage_csv(copies: Copies) -> bytes:
    """All images that are in two splits, as a table: each with the one of an earlier split that is the same."""
    contradicting = set(copies.contradicting)
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(LEAKAGE_COLUMNS)
    for (split, earlier), pairs in copies.across.items():
        for pair in pairs:
            table.writerow((split, pair[0], earlier, pair[1], "no" if pair in contradicting else "yes"))
    return text.getvalue().encode("utf-8", "surrogateescape")


@dataclass
class _Found:
    across: dict[tuple[str, str], list[Pair]] = field(default_factory=dict)
    within: dict[str, list[Pair]] = field(default_factory=dict)
    contradicting: list[Pair] = field(default_factory=list)


def _look_up(image: SeenImage, split: str, firsts: Mapping[str, Mapping[bytes, SeenImage]], found: _Found) -> None:
    holder = next((name for name, seen in firsts.items() if image.digest in seen), None)
    if holder is None:
        return
    first = firsts[holder][image.digest]
    if first.origin == image.origin:  # the same image, which two splits share on purpose
        return
    pair = (image.origin, first.origin)
    (found.within.setdefault(split, []) if holder == split else found.across.setdefault((split, holder), [])).append(
        pair
    )
    if image.label != first.label:
        found.contradicting.append(pair)


def _named(pairs: Sequence[Pair]) -> str:
    return listed([f"{one} = {other}" for one, other in pairs], NAMED)
