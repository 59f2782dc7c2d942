"""What a source is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from mimi_edge.events import Listener, silent
from mimi_edge.images.splits import Dataset


@dataclass(frozen=True)
class Asked:
    """A dataset, and how to understand it.

    Attributes:
        spec: what `--data` says.
        seed: of sharing out images that no split is given for.
        skip_bad_images: go on without what cannot be opened.
        min_images: classes that have fewer are left out.
        listener: hears in Notes how the data was understood.
        split: a written split, as `split_document` made it, to use again.
        columns: of a table, where its titles are not the usual ones, such as `path=file,label=class`.
    """

    spec: str
    seed: int = 0
    skip_bad_images: bool = False
    min_images: int = 0
    listener: Listener = silent
    split: Mapping[str, Any] | None = None
    columns: str = ""


class Source(Protocol):
    """A module of this folder."""

    def takes(self, spec: str) -> bool:
        """Whether `--data` names data of this kind."""
        ...

    def classes(self, asked: Asked) -> tuple[str, ...]:
        """The classes that the data has, before images are shared out.

        Raises:
            ConfigError: as of `load`.
        """
        ...

    def load(self, asked: Asked) -> Dataset:
        """Finds images and their splits; none is decoded.

        Raises:
            ConfigError: the data cannot be used; every fault that was found is named.
        """
        ...
