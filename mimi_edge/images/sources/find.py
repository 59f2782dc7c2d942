"""All sources, and which of them `--data` means."""

from __future__ import annotations

from mimi_edge.images.sources import builtin, folder, generated, hub, manifest, torchvision_sets
from mimi_edge.images.sources.asked import Source
from mimi_edge.images.sources.names import require_known

SOURCES: tuple[Source, ...] = (builtin, generated, torchvision_sets, hub, manifest, folder)
"""In the order in which they are asked; a folder takes what is left."""


def source_of(spec: str) -> Source:
    """The source that takes what `--data` says.

    Raises:
        ConfigError: it is written like a name, and there is none such.
    """
    require_known(spec)
    return next(source for source in SOURCES if source.takes(spec))
