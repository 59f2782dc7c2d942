"""What a source is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
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
        root: the folder that data lies in which has to be fetched once; this user's own if empty.
        download: whether the network may be used for that.
        limits: how many images of a split are used at most; of splits that are not here, all.
    """

    spec: str
    seed: int = 0
    skip_bad_images: bool = False
    min_images: int = 0
    listener: Listener = silent
    split: Mapping[str, Any] | None = None
    columns: str = ""
    root: str = ""
    download: bool = False
    limits: Mapping[str, int] = field(default_factory=dict)

    def root_of(self, kind: str) -> Path:
        """The folder in which named data lies that has to be fetched once: the one that was named, or this user's.

        Args:
            kind: whose data it is, a folder of its own.
        """
        if self.root:
            return Path(self.root).expanduser().absolute()
        from platformdirs import user_data_dir

        return Path(user_data_dir("mimi-edge")) / kind


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
