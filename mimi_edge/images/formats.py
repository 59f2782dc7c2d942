"""The kinds of image files that can be read: what Pillow calls them, how their names end, how they begin."""

from __future__ import annotations

import os
import stat
from functools import cache

from mimi_edge.installation import pip_line
from mimi_edge.parts import HEIC, install_line

ALWAYS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png", ".apng"),
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
}
"""Endings of what every Pillow reads. It knows more kinds, but some of those start other programs or are no images."""
AVIF = {"AVIF": (".avif",)}
HEIF = {"HEIF": (".heic", ".heif", ".hif")}
AVIF_BRANDS = frozenset({b"avif", b"avis"})
HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
NEVER_LOOKED_INTO = frozenset(
    {".txt", ".csv", ".tsv", ".json", ".xml", ".yaml", ".yml", ".md", ".html"}
    | {".part", ".partial", ".crdownload", ".download", ".tmp", ".bak"}
)
"""Endings of labels, of which there may be one beside each image, and of what is not yet or no longer meant."""
HEAD_BYTES = 64


@cache
def formats() -> tuple[str, ...]:
    """What Pillow calls the kinds that can be read here."""
    return (*ALWAYS, *(AVIF if _reads_avif() else ()), *(HEIF if _reads_heif() else ()))


@cache
def suffixes() -> frozenset[str]:
    """Endings, in lower case, of the kinds that can be read here."""
    return frozenset(suffix for name in formats() for suffix in (ALWAYS | AVIF | HEIF)[name])


def suffix_of(name: str) -> str:
    """The ending of a file's name or path in lower case, empty where there is none."""
    return os.path.splitext(name)[1].lower()  # noqa: PTH122  There may be 100,000 of them, and pathlib is far slower.


def is_image_name(name: str) -> bool:
    """Whether a file's name says that it is an image of a kind that can be read here."""
    return suffix_of(name) in suffixes()


def is_image(path: str) -> bool:
    """The one rule for files in folders: an image by its ending, or by its first bytes where the ending says nothing.

    Nothing is said of whether it is sound. TIFF is known by its first bytes only where there is no ending at all:
    cameras' raw files begin alike.
    """
    suffix = suffix_of(path)
    if suffix in suffixes():
        return True
    if suffix in NEVER_LOOKED_INTO or reader_line(suffix) is not None:
        return False
    found = _format_of(_head(path))
    return found in formats() and (found != "TIFF" or not suffix)


def reader_line(suffix: str) -> str | None:
    """How to get what reads files of an ending that is an image's but cannot be read here, None for any other."""
    if suffix in suffixes():
        return None
    if suffix in HEIF["HEIF"]:
        return install_line(HEIC)
    return pip_line('install --upgrade "Pillow>=11.3"') if suffix in AVIF["AVIF"] else None


def _reads_avif() -> bool:
    try:
        from PIL import AvifImagePlugin
    except ImportError:  # Pillow before 11.3.
        return False
    return bool(AvifImagePlugin.SUPPORTED)


def _reads_heif() -> bool:
    """Whether the optional part is there; it tells Pillow of itself."""
    try:
        from pillow_heif import register_heif_opener
    except (ImportError, OSError):  # Not installed, or without a library of the system's that it needs.
        return False
    register_heif_opener()
    return True


def _head(path: str) -> bytes:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116  A pipe would keep the reader waiting for ever.
            return b""
        with open(path, "rb") as opened:  # noqa: PTH123
            return opened.read(HEAD_BYTES)
    except OSError:
        return b""


def _format_of(head: bytes) -> str | None:
    """What a file is by its first bytes."""
    beginnings = {b"\xff\xd8\xff": "JPEG", b"\x89PNG\r\n\x1a\n": "PNG", b"GIF87a": "GIF", b"GIF89a": "GIF"}
    beginnings |= {b"II*\0": "TIFF", b"MM\0*": "TIFF"}
    for beginning, name in beginnings.items():
        if head.startswith(beginning):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[:2] == b"BM" and head[6:10] == bytes(4):
        return "BMP"
    return _format_of_brands(head) if head[4:8] == b"ftyp" else None


def _format_of_brands(head: bytes) -> str | None:
    """Of a file that begins as films do: its main brand, and those it is compatible with."""
    end = min(len(head), int.from_bytes(head[:4], "big"))
    brands = {head[8:12], *(head[start : start + 4] for start in range(16, end, 4))}
    if brands & AVIF_BRANDS:
        return "AVIF"
    return "HEIF" if brands & HEIF_BRANDS else None
