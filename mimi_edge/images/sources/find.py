"""All sources, and which of them `--data` means."""

from __future__ import annotations

from mimi_edge.images.sources import builtin, folder, generated, manifest
from mimi_edge.images.sources.asked import Source

SOURCES: tuple[Source, ...] = (builtin, generated, manifest, folder)
"""In the order in which they are asked; a folder takes what is left."""


def source_of(spec: str) -> Source:
    """The source that takes what `--data` says."""
    return next(source for source in SOURCES if source.takes(spec))
