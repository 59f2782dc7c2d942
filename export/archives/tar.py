"""The few bytes of the tar format that an archive consists of, written in one way only.

A reader knows from the manifest which bytes each header must have, and compares. So nothing that a tar file could hold
besides, such as links, devices, folders, paths or a second member of the same name, is ever looked at.
"""

from __future__ import annotations

import struct
import tarfile

BLOCK = 512
END = bytes(2 * BLOCK)
LARGEST_MEMBER_BYTES = 8**11 - 1
"""What eleven octal digits can say: 8 GiB."""
_FIELDS = "100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x"
_CHECKSUM = slice(148, 156)
_SIZE = slice(124, 136)
_NAME_BYTES = 100
_COMPRESSIONS = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"PK": "zip"}
_KINDS = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.DIRTYPE: "a folder",
    tarfile.FIFOTYPE: "a pipe",
}


def member_header(name: str, size_bytes: int) -> bytes:
    """What stands before a member: mode 0644, no owner, no time; whole blocks.

    Args:
        name: of the member, a plain file name in any letters.
        size_bytes: of its content, at most `LARGEST_MEMBER_BYTES`.
    """
    encoded = name.encode()
    if name.isascii() and len(encoded) <= _NAME_BYTES:
        return _block(encoded, size_bytes, tarfile.REGTYPE)
    record = _path_record(encoded)
    extended = _block(b"././@PaxHeader", len(record), tarfile.XHDTYPE) + record + padding(len(record))
    return extended + _block(name.encode("ascii", "replace")[:_NAME_BYTES], size_bytes, tarfile.REGTYPE)


def padding(size_bytes: int) -> bytes:
    """What fills the last block of a content of that size."""
    return bytes(-size_bytes % BLOCK)


def stated_size(header: bytes) -> int | None:
    """The size that a header's block states, None where it is not a number as we write it."""
    digits = header[_SIZE].rstrip(b"\0")
    return int(digits, 8) if len(digits) == 11 and set(digits) <= set(b"01234567") else None


def described(block: bytes) -> str:
    """What stands in a place where a header was expected, for a message."""
    for magic, name in _COMPRESSIONS.items():
        if block.startswith(magic):
            return f"{name} data"
    if len(block) < BLOCK:
        return "the end of the file"
    try:
        found = tarfile.TarInfo.frombuf(block[:BLOCK], "utf-8", "backslashreplace")
    except tarfile.TarError:
        return "nothing that tar knows"
    return f"{_KINDS.get(found.type, 'a member')} {found.name!r} of {found.size} bytes"


def _block(name: bytes, size_bytes: int, kind: bytes) -> bytes:
    none = b"0000000\0"
    size, time = b"%011o\0" % size_bytes, b"%011o\0" % 0
    fields = (
        name,
        b"0000644\0",
        none,
        none,
        size,
        time,
        b" " * 8,
        kind,
        b"",
        b"ustar\00000",
        b"",
        b"",
        none,
        none,
        b"",
    )
    block = bytearray(struct.pack(_FIELDS, *fields))
    block[_CHECKSUM] = b"%06o\0 " % sum(block)
    return bytes(block)


def _path_record(name: bytes) -> bytes:
    """`LENGTH path=NAME`, where LENGTH counts its own digits."""
    rest = b" path=" + name + b"\n"
    length = len(rest)
    while length != len(rest) + len(str(length)):
        length = len(rest) + len(str(length))
    return str(length).encode() + rest
