"""What `fit` and `normalise` do is what torchvision's transforms do, and senseless settings are refused."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mimi_edge.errors import ConfigError
from mimi_edge.images import preprocessing as module
from mimi_edge.images.image_size import ImageSize
from mimi_edge.images.preprocessing import INTERPOLATIONS, Preprocessing, fit, normalise

HALF = (0.5, 0.5, 0.5)
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def noise(width: int, height: int, seed: int = 0, low: int = 0, high: int = 256) -> Image.Image:
    values = np.random.default_rng(seed).integers(low, high, (height, width, 3), np.uint8)
    return Image.fromarray(values)


@settings(max_examples=150, deadline=None)
@given(
    width=st.integers(1, 90),
    height=st.integers(1, 90),
    size=st.integers(1, 48),
    margin=st.integers(0, 20),
    interpolation=st.sampled_from(INTERPOLATIONS),
)
def test_same_pixels_as_torchvision(width: int, height: int, size: int, margin: int, interpolation: str) -> None:
    transforms = pytest.importorskip("torchvision.transforms")
    image = noise(width, height, seed=width * 100 + height)
    setting = Preprocessing(size, size + margin, interpolation, *IMAGENET)
    mode = transforms.InterpolationMode[interpolation.upper()]
    expected = transforms.CenterCrop(size)(transforms.Resize(size + margin, mode)(image))
    fitted = fit(image, setting)
    assert fitted.dtype == np.uint8
    np.testing.assert_array_equal(fitted, np.asarray(expected))
    to_numbers = transforms.Compose([transforms.ToTensor(), transforms.Normalize(*IMAGENET)])
    numbers = to_numbers(Image.fromarray(fitted)).numpy()
    np.testing.assert_allclose(normalise(fitted[None], setting)[0], numbers, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("width", "height"), [(60, 33), (33, 60), (41, 40), (300, 299)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
def test_thin_strips_go_the_short_way_to_the_same_pixels(
    width: int, height: int, interpolation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = Preprocessing(24, 29, interpolation, HALF, HALF)
    # Of middling contrast: the two ways may take rows and columns in another order, and clip differently in between.
    image = noise(width, height, low=90, high=160)
    expected = fit(image, setting)
    monkeypatch.setattr(module, "LONGEST_RATIO", 1)
    monkeypatch.setattr(module, "MOST_PIXELS", 1)
    assert np.abs(fit(image, setting).astype(int) - expected).max() <= 2


def test_a_strip_a_pixel_high_does_not_fill_the_memory() -> None:
    strip = noise(60_000, 1)
    assert fit(strip, Preprocessing(224, 256, "bicubic", HALF, HALF)).shape == (224, 224, 3)


def test_normalise_gives_contiguous_channels_first() -> None:
    images = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    numbers = normalise(images, Preprocessing(4, 4, "nearest", (0.0, 0.5, 1.0), (1.0, 0.5, 0.25)))
    assert numbers.shape == (2, 3, 4, 4)
    assert numbers.dtype == np.float32
    assert numbers.flags["C_CONTIGUOUS"]
    assert numbers[1, 2, 3, 0] == pytest.approx((images[1, 3, 0, 2] / 255 - 1.0) / 0.25, abs=1e-6)
    assert images[0, 0, 1, 0] == 3


@settings(max_examples=100, deadline=None)
@given(image=st.tuples(*[st.integers(1, 90)] * 2), size=st.tuples(*[st.integers(1, 40)] * 2), margin=st.integers(0, 9))
def test_of_a_box_an_image_covers_both_sides_and_the_middle_is_kept(
    image: tuple[int, int], size: tuple[int, int], margin: int
) -> None:
    """As torchvision does it, given the size that just covers the box: the larger of both scales, rounded down."""
    transforms = pytest.importorskip("torchvision.transforms")
    height, width = image
    box = ImageSize(size[0] + margin, size[1] + margin)
    scale = max(Fraction(box.height, height), Fraction(box.width, width))
    covering = (int(height * scale), int(width * scale))
    assert covering[0] >= box.height
    assert covering[1] >= box.width
    shown, mode = noise(width, height), transforms.InterpolationMode.BICUBIC
    expected = transforms.CenterCrop(size)(transforms.Resize(covering, mode)(shown))
    np.testing.assert_array_equal(fit(shown, Preprocessing(ImageSize(*size), box, "bicubic", HALF, HALF)), expected)


def test_a_long_strip_is_not_made_whole_for_its_middle() -> None:
    strip = noise(4, 9000)
    setting = Preprocessing(ImageSize(96, 224), ImageSize(110, 256), "bicubic", HALF, HALF)
    assert fit(strip, setting).shape == (96, 224, 3)


def test_every_fault_is_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        Preprocessing(0, True, "cubic", (0.5, 0.5), (1.0, 0.0, math.nan))  # type: ignore[arg-type]
    for name in ("size", "resize", "interpolation", "mean", "std"):
        assert f"- {name}: expected" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"resize": 31}, "at least the size, 32, got 31"),
        ({"size": ImageSize(20, 33)}, "at least the size, 20x33, got 32"),
        ({"std": (1.0, 0.0, 1.0)}, "above 0"),
        ({"std": (1.0, -1.0, 1.0)}, "above 0"),
        ({"mean": (0.0, math.inf, 0.0)}, "finite"),
        ({"mean": ["0", "0", "0"]}, "finite"),
        ({"size": "32"}, "'32'"),
        ({"size": 10**9, "resize": 10**9}, "8192"),
        ({"interpolation": None}, "None"),
    ],
)
def test_one_fault_is_named(changes: dict[str, Any], word: str) -> None:
    good = {"size": 32, "resize": 32, "interpolation": "bicubic", "mean": HALF, "std": HALF}
    Preprocessing(**good)
    with pytest.raises(ConfigError, match=word):
        Preprocessing(**good | changes)
