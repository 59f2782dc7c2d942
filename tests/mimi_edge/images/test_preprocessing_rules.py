"""The rules that docs/data.md gives for other languages are those that we follow, to the bit."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import PIL
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from mimi_edge.images.folders import SPLIT_NAMES
from mimi_edge.images.formats import ALWAYS, AVIF, HEIF, NEVER_LOOKED_INTO
from mimi_edge.images.image_size import ImageSize
from mimi_edge.images.preprocessing import INTERPOLATIONS, Preprocessing, fit, normalise
from mimi_edge.images.read_image import read_rgb

PAGE = Path(__file__).parents[3] / "docs" / "data.md"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture(scope="module")
def prepared() -> Callable[..., NDArray[np.float32]]:
    """The function on the page, for the Pillow that is here."""
    code = re.search(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert code is not None
    names: dict[str, object] = {}
    exec(code[1], names)  # noqa: S102
    return partial(names["prepared"], pillow=int(PIL.__version__.split(".")[0]))  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(1, 90),
    height=st.integers(1, 90),
    size=st.integers(1, 40),
    margin=st.integers(0, 9),
    interpolation=st.sampled_from(INTERPOLATIONS),
    full=st.booleans(),
)
def test_the_page_gives_what_we_give(
    width: int, height: int, size: int, margin: int, interpolation: str, full: bool, prepared: Callable[..., object]
) -> None:
    values = np.random.default_rng(width).integers(0, 256, (height, width, 3))
    image = (values // 128 * 255 if full else values).astype(np.uint8)
    ours = Preprocessing(size, size + margin, interpolation, MEAN, STD)
    expected = normalise(fit(Image.fromarray(image), ours)[None], ours)
    np.testing.assert_array_equal(prepared(image, size, size + margin, interpolation, MEAN, STD), expected)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize(("width", "height"), [(641, 480), (240, 520)])
def test_a_photograph_and_its_crop(
    width: int, height: int, interpolation: str, prepared: Callable[..., object]
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
    ours = Preprocessing(64, 73, interpolation, MEAN, STD)
    expected = normalise(fit(Image.fromarray(image), ours)[None], ours)
    np.testing.assert_array_equal(prepared(image, 64, 73, interpolation, MEAN, STD), expected)


@settings(max_examples=60, deadline=None)
@given(image=st.tuples(st.integers(1, 90), st.integers(1, 90)), size=st.tuples(*[st.integers(1, 40)] * 2))
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_images_that_are_no_squares(
    interpolation: str, image: tuple[int, int], size: tuple[int, int], prepared: Callable[..., object]
) -> None:
    values = np.random.default_rng(0).integers(0, 256, (*image, 3)).astype(np.uint8)
    box = (size[0] + 3, size[1] + 5)
    ours = Preprocessing(ImageSize(*size), ImageSize(*box), interpolation, MEAN, STD)
    expected = normalise(fit(Image.fromarray(values), ours)[None], ours)
    assert expected.shape == (1, 3, *size)
    np.testing.assert_array_equal(prepared(values, size, box, interpolation, MEAN, STD), expected)


@pytest.mark.parametrize("stored", [(0, 0, 0, 0), (10, 200, 30, 40), (255, 255, 0, 128), (100, 90, 80, 70)])
def test_cmyk(stored: tuple[int, ...], tmp_path: Path) -> None:
    Image.new("CMYK", (1, 1), stored).save(tmp_path / "a.tif")
    *inks, black = stored
    expected = [int((255 - ink) * (255 - black) / 255 + 0.5) for ink in inks]
    assert np.asarray(read_rgb(tmp_path / "a.tif"))[0, 0].tolist() == expected


@pytest.mark.parametrize("alpha", [0, 1, 40, 127, 128, 254, 255])
def test_transparency(alpha: int, tmp_path: Path) -> None:
    Image.new("RGBA", (1, 1), (200, 100, 7, alpha)).save(tmp_path / "a.png")
    expected = [int((alpha * value + (255 - alpha) * 255) / 255 + 0.5) for value in (200, 100, 7)]
    assert np.asarray(read_rgb(tmp_path / "a.png"))[0, 0].tolist() == expected


def test_the_page_names_what_is_read_and_what_splits_are_called() -> None:
    page = PAGE.read_text("utf-8")
    mentioned = set(re.findall(r"\.[a-z]+\b", page))
    assert {ending for kind in (ALWAYS | AVIF | HEIF).values() for ending in kind} - {
        ".gif",
        ".webp",
        ".avif",
    } <= mentioned
    assert mentioned >= NEVER_LOOKED_INTO
    for name, split in SPLIT_NAMES.items():
        assert re.search(rf"^\| {split} \|.*`{name}`", page, re.MULTILINE)
