"""Reads archives: first everything is looked at and hashed, and only then can anything be taken out.

An archive is right only if it is, byte for byte, what `mimi-edge pack` would write for the manifest at its beginning.
It is read once from front to end, in little memory, and nothing in it is compressed: what it says it holds and the
size of the file must agree, so a small file cannot become a large one.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from mimi_edge.documents import require_regular
from mimi_edge.errors import ArtifactError
from mimi_edge.events import Listener, silent
from mimi_edge.export.archives.contents import LARGEST_MANIFEST_BYTES, Contents, Member, read_contents
from mimi_edge.export.archives.progress import ByteProgress
from mimi_edge.export.archives.tar import BLOCK, END, described, member_header, padding, stated_size
from mimi_edge.export.manifest import MANIFEST
from mimi_edge.files import MEGABYTE

CHUNK_BYTES = MEGABYTE


@dataclass(frozen=True)
class Archive:
    """An archive whose bytes were found to be what its manifest says.

    Attributes:
        path: of the file.
        sha256: of the whole file.
        contents: what it holds.
    """

    path: Path
    sha256: str
    contents: Contents


@dataclass(frozen=True)
class Examined:
    """What came of looking at every byte of an archive.

    Attributes:
        sha256: of the whole file.
        size_bytes: of the whole file.
        contents: what it says it holds; None where that cannot be believed.
        faults: everything that is wrong.
    """

    sha256: str
    size_bytes: int
    contents: Contents | None
    faults: tuple[str, ...]


def examine(path: Path, listener: Listener = silent) -> Examined:
    """Looks at every byte of an archive; writes nothing.

    Raises:
        ArtifactError: there is no such file, or it is a pipe or a device.
    """
    if not os.path.lexists(path):
        raise ArtifactError(f"There is no file {path}. Expected an archive from mimi-edge pack. Check the path.")
    try:
        require_regular(path)
    except OSError as error:
        # It is read twice, once to look at every byte and once to unpack: a pipe gives them only once.
        raise ArtifactError(
            f"Cannot read {path}: {error.strerror}. Expected an archive from mimi-edge pack; save it to a file first."
        ) from error
    try:
        with path.open("rb") as opened:
            size_bytes = os.fstat(opened.fileno()).st_size
            stream = _Stream(opened, ByteProgress(listener, f"check {path.name}", size_bytes))
            contents, faults = _manifest(stream)
            if contents is not None:
                faults = list(_faults(stream, contents, size_bytes))
            return Examined(stream.sha256_of_all(), size_bytes, contents, tuple(faults))
    except OSError as error:
        raise ArtifactError(f"Cannot read {path}: {error.strerror}. Copy it again.") from error


def unpack(archive: Archive, names: Iterable[str], folder: Path, listener: Listener = silent) -> None:
    """Takes files out of an archive, and hashes them once more on the way.

    Args:
        archive: that was found to be right.
        names: of the files.
        folder: to put them into; it has none of these names yet.
        listener: hears how far it is.

    Raises:
        ArtifactError: the archive was altered since it was looked at.
        OSError: the disk is full.
    """
    wanted = set(names)
    total_bytes = sum(member.entry.size_bytes for member in archive.contents.members if member.name in wanted)
    progress = ByteProgress(listener, f"unpack {archive.path.name}", total_bytes)
    with archive.path.open("rb") as opened:
        for member in archive.contents.members:
            if member.name in wanted:
                opened.seek(len(member.header), 1)
                _take_out(opened, member, folder / member.name, progress)
                opened.seek(len(padding(member.entry.size_bytes)), 1)
            else:
                opened.seek(member.stored_bytes, 1)


def _take_out(opened: BinaryIO, member: Member, target: Path, progress: ByteProgress) -> None:
    digest = hashlib.sha256()
    with target.open("xb") as out:
        for chunk in chunks(opened.read, member.entry.size_bytes):
            digest.update(chunk)
            out.write(chunk)
            progress(len(chunk))
    if digest.hexdigest() != member.entry.sha256:
        raise ArtifactError(f"{member.name} was altered in the archive while it was unpacked. Nothing was installed.")


def chunks(read: Callable[[int], bytes], size_bytes: int) -> Iterator[bytes]:
    """So many bytes in pieces; fewer where there are no more."""
    left = size_bytes
    while left and (chunk := read(min(left, CHUNK_BYTES))):
        left -= len(chunk)
        yield chunk


class _Stream:
    """A file that is read from front to end and hashed meanwhile."""

    def __init__(self, opened: BinaryIO, progress: ByteProgress) -> None:
        self._opened, self._progress, self._digest = opened, progress, hashlib.sha256()

    def read(self, size_bytes: int) -> bytes:
        """So many bytes; fewer only at the end of the file."""
        content = self._opened.read(size_bytes)
        self._digest.update(content)
        self._progress(len(content))
        return content

    def sha256_of_all(self) -> str:
        """Of the whole file, once what is left of it is read."""
        while self.read(CHUNK_BYTES):
            pass
        return self._digest.hexdigest()


def _manifest(stream: _Stream) -> tuple[Contents | None, list[str]]:
    header = stream.read(BLOCK)
    size_bytes = stated_size(header)
    if size_bytes is None or header != member_header(MANIFEST, size_bytes):
        return None, [f"it must begin with {MANIFEST} as mimi-edge pack writes it, and begins with {described(header)}"]
    if size_bytes > LARGEST_MANIFEST_BYTES:
        return None, [
            f"{MANIFEST} is said to have {size_bytes:,} bytes; at most {LARGEST_MANIFEST_BYTES:,} are allowed"
        ]
    content = stream.read(size_bytes)
    if len(content) < size_bytes:
        return None, [f"it ends in the middle of {MANIFEST}"]
    contents, faults = read_contents(content)
    if stream.read(len(padding(size_bytes))) != padding(size_bytes):
        faults.append(f"something stands between {MANIFEST} and the next file")
    return (None if faults else contents), faults


def _faults(stream: _Stream, contents: Contents, size_bytes: int) -> Iterator[str]:
    """Everything in which the rest of a file is not what its manifest says."""
    aligned = size_bytes == contents.size_bytes
    if not aligned:
        yield f"by its {MANIFEST} it has {contents.size_bytes:,} bytes, got {size_bytes:,}"
    for member in contents.members[1:]:
        header = stream.read(len(member.header))
        if header != member.header:
            yield f"expected {member.name} of {member.entry.size_bytes} bytes, got {described(header)}"
            if not aligned:
                return
        yield from _content_faults(stream, member)
    if stream.read(len(END)) != END:
        yield "it does not end as mimi-edge pack ends an archive"


def _content_faults(stream: _Stream, member: Member) -> Iterator[str]:
    digest, left = hashlib.sha256(), member.entry.size_bytes
    for chunk in chunks(stream.read, left):
        digest.update(chunk)
        left -= len(chunk)
    if left:
        yield f"it ends in the middle of {member.name}: {left:,} bytes are missing"
    elif digest.hexdigest() != member.entry.sha256:
        yield f"{member.name} is not what was packed: its sha256 differs"
    fill = padding(member.entry.size_bytes)
    if not left and stream.read(len(fill)) != fill:
        yield f"something stands behind {member.name}"
