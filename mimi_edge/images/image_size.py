"""How large the images are that a network sees: a height and a width, which are mostly the same.

A square is one number wherever it is written: in documents, options and messages. What is no square is height and then
width, as in torch: a list of both in documents, `224x384` as an option.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

LARGEST_SIDE = 8192
"""In pixels; a longer one is a slip, and would need more memory than an image is worth."""
_OPTION = re.compile(r"([0-9]{1,6})(?:[xX]([0-9]{1,6}))?")


class ImageSize:
    """Height and width in pixels; to be unpacked in this order, as the shape [H, W].

    No dataclass, so that a document may hold one number for it (`documents.FROM_DOCUMENT`).

    Raises:
        ValueError: a side is no whole number from 1 to `LARGEST_SIDE`.
    """

    __slots__ = ("height", "width")

    def __init__(self, height: int, width: int) -> None:
        for side in (height, width):
            if type(side) is not int or not 1 <= side <= LARGEST_SIDE:
                raise ValueError(f"expected a whole number of pixels from 1 to {LARGEST_SIDE}, got {side!r}")
        self.height = height
        self.width = width

    @classmethod
    def of(cls, given: ImageSize | int) -> ImageSize:
        """A size as it is, or the square of a side."""
        return given if isinstance(given, ImageSize) else cls(given, given)

    @classmethod
    def parse(cls, text: str) -> ImageSize:
        """The size that an option says: `224`, or `224x384` for a height and a width.

        Raises:
            ValueError: it says something else.
        """
        found = _OPTION.fullmatch(text.strip())
        if found is None:
            raise ValueError(f"expected pixels such as 224, or height and width such as 224x384, got {text!r}")
        height, width = found.groups()
        return cls(int(height), int(width or height))

    @classmethod
    def from_document(cls, entry: object) -> ImageSize:
        """Reads what `document` gives, or an option's text.

        Raises:
            ValueError: it is something else.
        """
        if isinstance(entry, str):
            return cls.parse(entry)
        if isinstance(entry, list):
            if len(entry) != 2:
                raise ValueError(f"expected a number of pixels, or a height and a width, got {entry!r}")
            return cls(*entry)
        # What it is, is looked at there.
        return cls(entry, entry)  # type: ignore[arg-type]

    @property
    def document(self) -> int | list[int]:
        """As JSON holds it: the side of a square, or height and width."""
        return self.height if self.is_square else [self.height, self.width]

    @property
    def is_square(self) -> bool:
        """Whether both sides are as long."""
        return self.height == self.width

    @property
    def area(self) -> int:
        """How many pixels that are."""
        return self.height * self.width

    @property
    def in_words(self) -> str:
        """Height by width: `224 x 384`."""
        return f"{self.height} x {self.width}"

    def __iter__(self) -> Iterator[int]:
        return iter((self.height, self.width))

    def __str__(self) -> str:
        return str(self.height) if self.is_square else f"{self.height}x{self.width}"

    def __repr__(self) -> str:
        return f"ImageSize({self.height}, {self.width})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ImageSize) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))


def document_of_size(size: ImageSize | None) -> int | list[int] | None:
    """As JSON holds a size that may be open."""
    return None if size is None else size.document
