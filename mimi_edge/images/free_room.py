"""How much room there is for decoded images, and whether they are kept in memory or in a file of the cache."""

from __future__ import annotations

import shutil
from pathlib import Path

from mimi_edge.caches import CACHE_VARIABLE
from mimi_edge.errors import ConfigError
from mimi_edge.events import Listener, Note
from mimi_edge.free_memory import free_memory_bytes

AUTO, MEMORY, MAPPED, FILES = "auto", "memory", "mapped", "files"
IMAGES = (AUTO, MEMORY, MAPPED, FILES)
MEMORY_SHARE = 0.5
"""Of the free memory, that images may take unasked: models, their activations and other programs want some, too."""
WORTH_SAYING_BYTES = 1e9


def is_small(needed_bytes: int) -> bool:
    """Whether images are not worth a word, nor a look for where there is room."""
    memory = free_memory_bytes()
    return needed_bytes < WORTH_SAYING_BYTES and (memory is None or needed_bytes <= MEMORY_SHARE * memory)


def place_for(
    images: str, needed_bytes: int, missing_bytes: int, cache: Path, listener: Listener, *, copies: int = 1
) -> str:
    """Where decoded images are kept, MEMORY or MAPPED, or that they are not, FILES; a Note says what that costs.

    Args:
        images: one of IMAGES.
        needed_bytes: of all images, decoded.
        missing_bytes: of those, that are not in the cache yet.
        cache: the folder that holds such files.
        listener: hears the Note, of memory from 1 GB on.
        copies: that would lie in memory, one for each process; a file is one for all.

    Raises:
        ConfigError: there is not enough memory, or room on the disk, where that was asked for.
    """
    memory, disk, in_memory = free_memory_bytes(), free_disk_bytes(cache), needed_bytes * copies
    fits = {MEMORY: memory is None or in_memory <= memory, MAPPED: missing_bytes <= disk, FILES: True}
    roomy = memory is None or in_memory <= MEMORY_SHARE * memory
    wished = (MEMORY, MAPPED, FILES) if roomy else (MAPPED, MEMORY, FILES)
    place = next(one for one in wished if fits[one]) if images == AUTO else images
    if not fits[place]:
        raise ConfigError(_too_large(place, in_memory, memory, missing_bytes, disk, cache))
    if place == MAPPED:
        said = (
            f"Decoded images are kept in {cache}: {_gb(needed_bytes)} GB, {_gb(missing_bytes)} GB of it new. "
            "They are read as they are needed, and need not fit into memory."
        )
        listener(Note(said))
    elif place == FILES:
        why = "" if images == FILES else f" There is no room for {_gb(needed_bytes)} GB in memory or in {cache}."
        listener(Note(f"Images are decoded anew whenever they are needed, which takes time in every epoch.{why}"))
    elif in_memory >= WORTH_SAYING_BYTES:
        listener(Note(f"Decoded images take {_gb(in_memory)} GB of memory."))
    return place


def _too_large(place: str, needed: int, memory: int | None, missing: int, disk: int, cache: Path) -> str:
    advice = (
        "Use fewer images or a smaller --image-size, or decode them whenever they are needed, which is slower: "
        "--images files."
    )
    if place == MEMORY:
        room = f"{_gb(needed)} GB of memory, of which {_gb(memory or 0)} GB are free"
        return f"Decoded, the images need {room}. Keep them in a file: --images mapped. {advice}"
    room = f"{_gb(missing)} GB in {cache}, where {_gb(disk)} GB are free"
    return f"Decoded, the images need {room}. Set {CACHE_VARIABLE} to a folder with more room. {advice}"


def _gb(count: int) -> str:
    return f"{count / 1e9:.1f}"


def free_disk_bytes(folder: Path) -> int:
    """Bytes that can be written where a folder is, or will be."""
    there = folder.absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    return shutil.disk_usage(there).free
