"""Decoded images in a file of the cache, which the system reads page by page as they are asked for.

An entry is a folder with all pixels in one file, [n, 3, H, W] as training wants them, and a line of JSON a block that
says what became of its images. While it is made it has another name, and whoever makes it holds a lock on its pixels;
what a killed process left there is looked at, image by image, and gone on with. Whoever uses it holds a shared lock.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
import PIL
from numpy.typing import NDArray

from mimi_edge.caches import content_key
from mimi_edge.events import Listener, Note
from mimi_edge.file_locks import is_still_there, try_lock
from mimi_edge.files import remove_folder, sync
from mimi_edge.images.copies import DIGEST_BYTES, digest
from mimi_edge.images.fitted import BLOCK, Fitted
from mimi_edge.images.image_size import ImageSize
from mimi_edge.images.preprocessing import Preprocessing
from mimi_edge.images.splits import Split, spread

FOLDER = "images"
"""In the cache."""
PIXELS, BLOCKS = "images.u8", "blocks.jsonl"
UNFINISHED = ".unfinished"
"""Ending of an entry's name while it is made."""
FORMAT = 1
LOOKED_AT = 16
"""Images of a finished entry that are decoded again, to see that it is still that of the data."""
PATIENT_SECONDS, LOOKING_SECONDS = 1.0, 0.05
NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)
"""Python names it since 3.13 only."""

Outcome = Fitted | str


@dataclass(frozen=True, eq=False)
class Kept:
    """What became of the images of a split.

    Attributes:
        images: [n, H, W, 3] of the good ones, in order; one channel lies after the other.
        good: their indices in the split.
        digests: what stands for the pixels of each.
        bad: why the others cannot be used, by index.
    """

    images: NDArray[np.uint8]
    good: list[int] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)
    bad: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """A split at the size of a backbone, in the cache.

    Attributes:
        folder: its place once it is whole.
        count: images in the split.
        size: H and W.
    """

    folder: Path
    count: int
    size: ImageSize

    @property
    def image_bytes(self) -> int:
        """Of one image."""
        return 3 * self.size.area

    @property
    def unfinished(self) -> Path:
        """Its place while it is made."""
        return self.folder.with_name(self.folder.name + UNFINISHED)

    @property
    def missing_bytes(self) -> int:
        """That its file will still grow by, at most."""
        for folder in (self.folder, self.unfinished):
            if (folder / PIXELS).exists():
                whole = folder == self.folder
                return 0 if whole else max(0, self.count * self.image_bytes - (folder / PIXELS).stat().st_size)
        return self.count * self.image_bytes

    @property
    def missing_images(self) -> int:
        """That its file does not hold yet, at most."""
        return math.ceil(self.missing_bytes / self.image_bytes)


@dataclass
class _Block:
    """What became of some images in turn: the digest of each, or why there is none."""

    outcomes: list[bytes | str] = field(default_factory=list)

    @property
    def good(self) -> int:
        return sum(isinstance(outcome, bytes) for outcome in self.outcomes)

    def line(self) -> bytes:
        said = [{"bad": one} if isinstance(one, str) else one.hex() for one in self.outcomes]
        return json.dumps(said, allow_nan=False).encode() + b"\n"


def entry_of(split: Split, preprocessing: Preprocessing, cache: Path) -> Entry:
    """The entry of a split: under a name made from where its images are, how large and how old, and what is done.

    Args:
        split: of a dataset; files are looked up where its reader has `paths`.
        preprocessing: of the task.
        cache: the folder of all entries.
    """
    states = [_state(path) for path in getattr(split.read, "paths", ())]
    key = content_key(FORMAT, PIL.__version__, preprocessing.document(), split.origins, states)
    return Entry(cache / key, len(split), preprocessing.size)


def _state(path: Path) -> tuple[str, int, int]:
    try:
        status = path.stat()
    except OSError:  # whoever reads it says so better
        return str(path), 0, 0
    return str(path.absolute()), status.st_size, status.st_mtime_ns


def kept_on_disk(
    entry: Entry,
    outcomes: Callable[[int], Iterator[tuple[int, Outcome]]],
    again: Callable[[int], Outcome],
    listener: Listener,
) -> Kept:
    """The images of an entry, mapped into memory: those that are there, and those that have to be decoded still.

    Args:
        entry: of the split.
        outcomes: decodes all images from an index on, in order.
        again: decodes one.
        listener: hears that another process is waited for.

    Raises:
        OSError: the cache cannot be written, or the disk is full; what is decoded stays for the next try.
    """
    try:
        while (kept := _whole(entry, again) or _made(entry, outcomes, again, listener)) is None:
            pass  # another process finished it, or removed it
    except OSError as error:
        error.filename = error.filename or str(entry.unfinished)  # a full disk names no file
        raise
    return kept


def _made(
    entry: Entry,
    outcomes: Callable[[int], Iterator[tuple[int, Outcome]]],
    again: Callable[[int], Outcome],
    listener: Listener,
) -> Kept | None:
    """The images of an entry that is finished now; None where another process was faster."""
    with _unfinished(entry, listener) as pixels:
        if pixels is None:
            return None
        blocks = _decode_the_rest(entry, pixels, outcomes, again)
        kept = _kept(entry, blocks, pixels)
        _publish(entry)
        # For as long as the images are mapped, so that nobody clears them away.
        try_lock(pixels.fileno(), exclusive=False)
        return kept


def _whole(entry: Entry, again: Callable[[int], Outcome]) -> Kept | None:
    """The images of a finished entry; None where there is none, and one that is not of this data any more goes."""
    try:
        pixels = (entry.folder / PIXELS).open("rb")
    except FileNotFoundError:
        return None
    with pixels:
        while not try_lock(pixels.fileno(), exclusive=False):
            time.sleep(LOOKING_SECONDS)
        if not is_still_there(entry.folder / PIXELS, pixels.fileno()):
            return None
        blocks = [block for block, _ in _noted(entry.folder)]
        if not _is_of(entry, blocks, pixels) or not _is_still_so(blocks, again):
            remove_folder(entry.folder, ignore_errors=True)
            return None
        os.utime(entry.folder)  # when it was last used
        return _kept(entry, blocks, pixels)


def _is_of(entry: Entry, blocks: list[_Block], pixels: BinaryIO) -> bool:
    images, good = sum(len(block.outcomes) for block in blocks), sum(block.good for block in blocks)
    return images == entry.count and os.fstat(pixels.fileno()).st_size == good * entry.image_bytes


def _is_still_so(blocks: list[_Block], again: Callable[[int], Outcome]) -> bool:
    """Whether images that could not be used still cannot, and some of the others are what they were."""
    noted = [outcome for block in blocks for outcome in block.outcomes]
    bad = {index for index, outcome in enumerate(noted) if isinstance(outcome, str)}
    some = {int(index) for index in spread(len(noted), LOOKED_AT)}
    return all(_same(noted[index], again(index)) for index in sorted(bad | some))


def _same(noted: bytes | str, outcome: Outcome) -> bool:
    return isinstance(noted, str) if isinstance(outcome, str) else noted == outcome.digest


@contextmanager
def _unfinished(entry: Entry, listener: Listener) -> Iterator[BinaryIO | None]:
    """The locked pixels of an entry that is not finished; None where it is not there any more once it can be had."""
    folder = entry.unfinished
    folder.mkdir(parents=True, exist_ok=True)
    try:
        pixels = os.fdopen(os.open(folder / PIXELS, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
    except FileNotFoundError:
        yield None
        return
    with pixels:
        if not _locked_alone(folder, pixels, listener):
            yield None
        elif (entry.folder / PIXELS).exists():  # finished between a look at it and this
            shutil.rmtree(folder, ignore_errors=True)
            yield None
        else:
            yield pixels


def _locked_alone(folder: Path, pixels: BinaryIO, listener: Listener) -> bool:
    """Waits for the lock; False as soon as the file is in that folder no more."""
    began, said = time.monotonic(), False
    while not try_lock(pixels.fileno(), exclusive=True):
        if not is_still_there(folder / PIXELS, pixels.fileno()):
            return False
        if not said and time.monotonic() - began > PATIENT_SECONDS:
            listener(Note("Waiting for another process that decodes the same images."))
            said = True
        time.sleep(LOOKING_SECONDS)
    return is_still_there(folder / PIXELS, pixels.fileno())


def _decode_the_rest(
    entry: Entry,
    pixels: BinaryIO,
    outcomes: Callable[[int], Iterator[tuple[int, Outcome]]],
    again: Callable[[int], Outcome],
) -> list[_Block]:
    """Goes on behind the last block that is whole."""
    blocks, end = _good_blocks(entry, pixels, again)
    place = sum(block.good for block in blocks) * entry.image_bytes
    pixels.truncate(place)
    pixels.seek(place)
    notes = entry.unfinished / BLOCKS
    with notes.open("ab") as written:
        written.truncate(end)
        block = _Block()
        for index, outcome in outcomes(sum(len(block.outcomes) for block in blocks)):
            if isinstance(outcome, str):
                block.outcomes.append(outcome)
            else:
                pixels.write(np.ascontiguousarray(outcome.pixels.transpose(2, 0, 1)).data)
                block.outcomes.append(outcome.digest)
            if len(block.outcomes) == BLOCK or index + 1 == entry.count:
                pixels.flush()
                written.write(block.line())
                written.flush()
                blocks.append(block)
                block = _Block()
    return blocks


def _good_blocks(entry: Entry, pixels: BinaryIO, again: Callable[[int], Outcome]) -> tuple[list[_Block], int]:
    """Blocks of which every image is as it was noted, up to the first that is not, and where their lines end.

    Pixels are looked at, for after a power cut a note may be there without them.
    """
    good: list[_Block] = []
    end = first = 0
    pixels.seek(0)
    for block, line_end in _noted(entry.unfinished):
        if len(block.outcomes) != min(BLOCK, entry.count - first) or not _is_good(entry, block, pixels, first, again):
            break
        good.append(block)
        end, first = line_end, first + len(block.outcomes)
    return good, end


def _is_good(entry: Entry, block: _Block, pixels: BinaryIO, first: int, again: Callable[[int], Outcome]) -> bool:
    return all(
        isinstance(again(first + position), str) if isinstance(noted, str) else _digest_of_next(entry, pixels) == noted
        for position, noted in enumerate(block.outcomes)
    )


def _digest_of_next(entry: Entry, pixels: BinaryIO) -> bytes | None:
    read = pixels.read(entry.image_bytes)
    if len(read) < entry.image_bytes:
        return None
    return digest(np.frombuffer(read, np.uint8).reshape(3, *entry.size).transpose(1, 2, 0))


def _noted(folder: Path) -> Iterator[tuple[_Block, int]]:
    """Blocks as they were noted, and where the line of each ends; a line that was cut short ends them."""
    end = 0
    try:
        notes = (folder / BLOCKS).open("rb")
    except FileNotFoundError:
        return
    with notes:
        for line in notes:
            try:
                block = _Block(
                    [one["bad"] if isinstance(one, dict) else bytes.fromhex(one) for one in json.loads(line)]
                )
            except (ValueError, TypeError, KeyError):
                return
            if any(isinstance(one, bytes) and len(one) != DIGEST_BYTES for one in block.outcomes):
                return
            end += len(line)
            yield block, end


def _kept(entry: Entry, blocks: list[_Block], pixels: BinaryIO) -> Kept:
    noted = [outcome for block in blocks for outcome in block.outcomes]
    good = [index for index, outcome in enumerate(noted) if isinstance(outcome, bytes)]
    return Kept(
        _mapped(pixels, len(good), entry.size),
        good,
        [outcome for outcome in noted if isinstance(outcome, bytes)],
        {index: outcome for index, outcome in enumerate(noted) if isinstance(outcome, str)},
    )


def _mapped(pixels: BinaryIO, count: int, size: ImageSize) -> NDArray[np.uint8]:
    """Images of a file, [n, H, W, 3], as an array of this process alone: what is written to it stays out of the file.

    That it may be written to is what torch asks for. No memory is set aside for it, or a file larger than the memory
    could not be mapped.
    """
    if count == 0:
        return np.empty((0, *size, 3), np.uint8)
    length = count * 3 * size.area
    if hasattr(mmap, "MAP_PRIVATE"):
        private = mmap.MAP_PRIVATE | NORESERVE
        mapping = mmap.mmap(pixels.fileno(), length, flags=private, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    else:  # Windows
        mapping = mmap.mmap(pixels.fileno(), length, access=mmap.ACCESS_COPY)
    return np.frombuffer(mapping, np.uint8).reshape(count, 3, *size).transpose(0, 2, 3, 1)


def _publish(entry: Entry) -> None:
    for name in (PIXELS, BLOCKS):
        sync(entry.unfinished / name)
    entry.unfinished.rename(entry.folder)
    sync(entry.folder.parent)
