"""Reads one image file, whatever a camera, scanner or web page made of it, as 8-bit RGB."""

from __future__ import annotations

import io
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from mimi_edge.errors import ConfigError
from mimi_edge.images.formats import formats, reader_line, suffix_of

ORIENTATION_TAG = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each EXIF orientation."""
DEEP_MODES = frozenset({"I", "I;16", "I;16L", "I;16B", "I;16N"})
ALPHA_MODES = frozenset({"RGBA", "LA", "PA", "RGBa", "La"})
LARGEST_16_BIT = 65535
TOO_LARGE = "larger than the memory there is"


class UnusableImageError(ConfigError):
    """One image that cannot be used.

    Attributes:
        reason: why, in a few words that go on from "it is".
    """

    def __init__(self, path: Path, reason: str) -> None:
        self.reason = reason
        super().__init__(
            f"Cannot use the image {shown(path)}: {reason}. "
            "Repair or remove it, or go on without such images: --skip-bad-images"
        )


def read_rgb(path: Path) -> Image.Image:
    """Reads an image as people see it, in 8-bit RGB.

    The EXIF orientation is applied and the first frame taken. Transparency is laid over white. 16-bit grayscale is
    scaled down by 257; so is 32-bit grayscale, whose values must be within 0..65535. Floating-point grayscale must be
    within 0..1. Colour profiles are ignored.

    Args:
        path: of a JPEG, PNG, BMP, GIF, TIFF, WebP, PPM, PGM, AVIF or HEIC file, whatever its ending says; the last two
            where Pillow and the part `heic` can read them.

    Raises:
        UnusableImageError: a ConfigError that names the file: it is missing, unreadable, empty, cut short, not an
            image, too large to be decoded safely, or of a pixel format that has no clear meaning.
    """
    return decoded_rgb(_content(path), path)


def decoded_rgb(content: bytes, path: Path) -> Image.Image:
    """The same of a file's content; `path` is for messages.

    Raises:
        UnusableImageError: as of `read_rgb`.
    """
    with _usable(path), Image.open(io.BytesIO(content), formats=formats()) as opened:
        opened.load()
        return _upright(_rgb(opened), _orientation(opened))


def as_rgb(image: Image.Image, name: str) -> Image.Image:
    """The same of an image that Pillow has opened, or that was made in memory; `name` is for messages.

    Raises:
        UnusableImageError: as of `read_rgb`.
    """
    with _usable(Path(name)):
        image.load()
        return _upright(_rgb(image), _orientation(image))


@contextmanager
def _usable(path: Path) -> Iterator[None]:
    """Says of whatever goes wrong with an image why it cannot be used."""
    try:
        with _pillow_quiet():
            yield
    except _PixelFormatError as error:
        raise UnusableImageError(path, str(error)) from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        limit = f"{(Image.MAX_IMAGE_PIXELS or 0) / 1e6:.0f} million"
        raise UnusableImageError(path, f"more than {limit} pixels, shrink it first") from error
    except UnidentifiedImageError as error:
        raise UnusableImageError(path, _unknown_kind(path)) from error
    except MemoryError as error:
        raise UnusableImageError(path, TOO_LARGE) from error
    except Exception as error:  # A decoder that meets a damaged file may raise anything.
        raise UnusableImageError(path, "damaged or cut short") from error


def shown(path: Path | str) -> str:
    """A path as text that can be printed and encoded; bytes of it that are not Unicode are shown as escapes."""
    return str(path).encode("utf-8", "backslashreplace").decode("utf-8")


def _unknown_kind(path: Path) -> str:
    kinds = ", ".join(formats())
    line = reader_line(suffix_of(path.name))
    return f"not an image of a kind that can be read ({kinds})" + (f"; to read {path.suffix}: {line}" if line else "")


class _PixelFormatError(Exception):
    """The pixels have no clear meaning as colours; the message says why."""


def _content(path: Path) -> bytes:
    try:
        # A pipe or a device would keep the reader waiting for ever.
        content = path.read_bytes() if stat.S_ISREG(path.stat().st_mode) else None
    except OSError as error:
        raise UnusableImageError(path, error.strerror or "it cannot be opened") from error
    except MemoryError as error:
        raise UnusableImageError(path, TOO_LARGE) from error
    if content is None:
        raise UnusableImageError(path, "not a file")
    if not content:
        raise UnusableImageError(path, "an empty file")
    return content


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in DEEP_MODES:
        return _from_deep(image)
    if image.mode == "F":
        return _from_float(image)
    if image.mode in ALPHA_MODES or "transparency" in image.info:
        return _over_white(image)
    return _converted(image, "RGB")


def _from_deep(image: Image.Image) -> Image.Image:
    values = np.asarray(_converted(image, "I"), np.int64)
    if values.min() < 0 or values.max() > LARGEST_16_BIT:
        raise _PixelFormatError("32-bit grayscale with values outside 0..65535, save it with 8 or 16 bits")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8)).convert("RGB")


def _from_float(image: Image.Image) -> Image.Image:
    values = np.asarray(image, np.float32)
    if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
        raise _PixelFormatError("floating-point grayscale with values outside 0..1, save it with 8 or 16 bits")
    return Image.fromarray(np.rint(values * 255).astype(np.uint8)).convert("RGB")


def _over_white(image: Image.Image) -> Image.Image:
    coloured = _converted(image, "RGBA")
    white = Image.new("RGBA", coloured.size, "white")
    return Image.alpha_composite(white, coloured).convert("RGB")


def _converted(image: Image.Image, mode: str) -> Image.Image:
    try:
        return image.convert(mode)
    except ValueError as error:
        raise _PixelFormatError(f"pixel format {image.mode} is not supported, save it as RGB") from error


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 (upright) where there is none, it cannot be made out, or Pillow has applied it."""
    if image.format == "TIFF":  # Pillow turns these by itself; early releases leave the tag in place all the same.
        return 1
    try:
        return int(image.getexif().get(ORIENTATION_TAG, 1))
    except Exception:  # noqa: BLE001  Damaged EXIF data is common, raises anything, and does no harm to the pixels.
        return 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    turn = TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


_quiet_lock = threading.Lock()
_quiet_depth = 0
_quiet_filters = warnings.catch_warnings()


@contextmanager
def _pillow_quiet() -> Iterator[None]:
    """Makes Pillow's warning of a decompression bomb an error and silences its others.

    Warning filters belong to the whole process, so the first of several threads sets them and the last restores them.
    """
    global _quiet_depth, _quiet_filters  # noqa: PLW0603
    with _quiet_lock:
        if _quiet_depth == 0:
            _quiet_filters = warnings.catch_warnings()
            _quiet_filters.__enter__()
            warnings.filterwarnings("ignore", module=r"PIL\.")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
        _quiet_depth += 1
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_depth -= 1
            if _quiet_depth == 0:
                _quiet_filters.__exit__(None, None, None)
