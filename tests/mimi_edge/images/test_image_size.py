"""Heights and widths: how they are written, read, and refused."""

import json
import pickle
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimi_edge.documents import FaultyError, typed
from mimi_edge.images.image_size import LARGEST_SIDE, ImageSize

SIDES = st.integers(1, LARGEST_SIDE)


@dataclass(frozen=True)
class Holder:
    """A document with a size in it, or none."""

    size: ImageSize | None = None


@given(SIDES, SIDES)
def test_a_size_comes_back_from_a_document_an_option_and_a_process(height: int, width: int) -> None:
    size = ImageSize(height, width)
    assert typed(json.loads(json.dumps({"size": size.document})), Holder).size == size
    assert typed({"size": str(size)}, Holder).size == size
    assert ImageSize.parse(str(size)) == size
    assert pickle.loads(pickle.dumps(size)) == size  # noqa: S301
    assert (tuple(size), size.area) == ((height, width), height * width)


def test_a_square_is_one_number_everywhere() -> None:
    square = ImageSize.of(224)
    assert (square.document, str(square), square.in_words, square.is_square) == (224, "224", "224 x 224", True)
    assert (
        square == ImageSize(224, 224) == ImageSize.of(square) == ImageSize.parse(" 224 ") == ImageSize.parse("224X224")
    )
    assert len({square, ImageSize(224, 224), ImageSize(224, 384)}) == 2


def test_height_stands_before_width() -> None:
    wide = ImageSize.parse("224x384")
    assert (wide.height, wide.width, wide.document, str(wide)) == (224, 384, [224, 384], "224x384")
    assert wide != ImageSize(384, 224)


@pytest.mark.parametrize("text", ["", "x", "224x", "x224", "2.5", "-4", "224x384x3", "224 x 384", "1e3", "٣"])
def test_another_text_is_refused_with_what_was_expected(text: str) -> None:
    with pytest.raises(ValueError, match="such as 224x384"):
        ImageSize.parse(text)


@pytest.mark.parametrize("entry", [0, -1, True, 1.0, None, {}, [], [224], [224, 0], [1, 2, 3], ["1", "2"], 10**9, "0"])
def test_another_entry_is_a_fault_of_the_document(entry: object) -> None:
    with pytest.raises((FaultyError, ValueError), match="expected"):
        ImageSize.from_document(entry)
    if entry is not None:
        with pytest.raises(FaultyError, match=r"size: expected"):
            typed({"size": entry}, Holder)
