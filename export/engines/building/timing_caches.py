"""What TensorRT measured of its kernels, kept between builds.

One file a backend, version and GPU. A line of ours with a hash stands before TensorRT's bytes, because TensorRT trusts
what it is given.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from mimi_edge.caches import default_cache
from mimi_edge.documents import read_bytes
from mimi_edge.events import Listener, Note
from mimi_edge.export.engines.tensorrt.bindings import Bindings
from mimi_edge.export.locks import locked
from mimi_edge.files import write_whole

SUFFIX = ".timing"
MARK = b"mimi-edge timing cache 1 "
HEADER_BYTES = len(MARK) + 64 + 1
LARGEST_BYTES = 1_000_000_000


class CacheUse(str, Enum):
    """What a timing cache did for a build."""

    UNWANTED = "not used"
    UNSUPPORTED = "not supported"
    NEW = "new"
    EXTENDED = "extended"
    REUSED = "reused"


@dataclass(frozen=True)
class TimingCache:
    """A timing cache that a build uses.

    Attributes:
        path: of its file.
        cache: TensorRT's `ITimingCache`; it must live until the build is done.
        content: TensorRT's bytes that it was made from; none where it started empty.
    """

    path: Path
    cache: Any
    content: bytes


def timing_cache_file(bindings: Bindings, gpu: str, folder: Path | None = None) -> Path:
    """Where the timing cache of builds for a GPU is kept.

    Args:
        bindings: whose backend and version it belongs to.
        gpu: name of the GPU, or the compute capabilities that are built for.
        folder: to keep it in; None: the cache folder's `timing`.
    """
    name = re.sub(r"[^A-Za-z0-9.]+", "-", f"{bindings.backend.value} {bindings.version} {gpu}").strip("-")
    return (folder or default_cache() / "timing") / f"{name}{SUFFIX}"


def attach(bindings: Bindings, config: Any, path: Path, listener: Listener) -> TimingCache | None:
    """Lets a build use a timing cache; a damaged one is left out, and the listener told.

    Returns:
        The cache, or None where TensorRT has no use for one.
    """
    if not bindings.has_timing_caches(config):
        return None
    content = _content(path, listener)
    cache = bindings.timing_cache(config, content)
    if cache is None or not config.set_timing_cache(cache, False):
        listener(Note(f"{bindings.name} does not take the timing cache {path}; a new one replaces it."))
        content, cache = b"", bindings.timing_cache(config, b"")
        config.set_timing_cache(cache, False)
    return TimingCache(path, cache, content)


def keep(bindings: Bindings, config: Any, used: TimingCache, listener: Listener) -> CacheUse:
    """Writes what a build added, together with what other builds wrote meanwhile.

    A cache that cannot be written costs the next build time and nothing else, so the listener is told and that is all.
    """
    after = bytes(used.cache.serialize())
    if used.content and len(after) == len(used.content):
        return CacheUse.REUSED
    try:
        used.path.parent.mkdir(parents=True, exist_ok=True)
        with locked(used.path.parent):
            _merge(bindings, config, used)
    except OSError as error:
        listener(Note(f"The timing cache {used.path} could not be written ({error.strerror}); builds take longer."))
    return CacheUse.EXTENDED if used.content else CacheUse.NEW


def _merge(bindings: Bindings, config: Any, used: TimingCache) -> None:
    present = _unsealed(read_bytes(used.path, LARGEST_BYTES)) if used.path.exists() else None
    other = bindings.timing_cache(config, present) if present and present != used.content else None
    if other is not None:
        used.cache.combine(other, False)
    content = bytes(used.cache.serialize())
    write_whole(used.path, _sealed(content))


def _content(path: Path, listener: Listener) -> bytes:
    """TensorRT's bytes in a file; none where there is no file, or a damaged one."""
    try:
        content = _unsealed(read_bytes(path, LARGEST_BYTES))
    except OSError:
        return b""
    if content is None:
        listener(Note(f"The timing cache {path} is damaged; a new one replaces it."))
    return content or b""


def _sealed(content: bytes) -> bytes:
    return MARK + hashlib.sha256(content).hexdigest().encode() + b"\n" + content


def _unsealed(file: bytes) -> bytes | None:
    content = file[HEADER_BYTES:]
    return content if file == _sealed(content) else None
