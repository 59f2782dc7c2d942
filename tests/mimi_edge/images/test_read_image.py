"""Whatever kind of image people bring is read as they see it, or named with what is wrong with it."""

import io
import os
import struct
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mimi_edge.errors import ConfigError
from mimi_edge.images.read_image import UnusableImageError, read_rgb

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
DEEP_RAMP = RAMP.astype(np.uint16) * 257


def saved(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)
    return path


def pixels(path: Path) -> np.ndarray:
    image = read_rgb(path)
    assert image.mode == "RGB"
    return np.asarray(image)


def gray(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[..., None], 3, axis=2)


def deep_png(values: np.ndarray, colour_type: int, claimed_side: int | None = None) -> bytes:
    """A 16-bit PNG of values [H, W, channels], which Pillow itself cannot write in colour."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", claimed_side or width, claimed_side or height, 16, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("ending", ["png", "bmp", "tif", "webp", "ppm", "gif"])
def test_colours_come_back(ending: str, tmp_path: Path) -> None:
    colours = np.zeros((16, 16, 3), np.uint8)
    colours[:8, :, 0], colours[8:, :, 2] = 250, 120
    options = {"lossless": True} if ending == "webp" else {}
    np.testing.assert_array_equal(pixels(saved(Image.fromarray(colours), tmp_path / f"a.{ending}", **options)), colours)


@pytest.mark.parametrize("ending", ["png", "pgm", "tif", "bmp"])
def test_grayscale(ending: str, tmp_path: Path) -> None:
    np.testing.assert_array_equal(pixels(saved(Image.fromarray(RAMP), tmp_path / f"a.{ending}")), gray(RAMP))


def test_black_and_white(tmp_path: Path) -> None:
    values = (RAMP > 100).astype(np.uint8) * 255
    image = Image.fromarray(values).convert("1", dither=Image.Dither.NONE)
    np.testing.assert_array_equal(pixels(saved(image, tmp_path / "a.png")), gray(values))


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_16_bit_grayscale_is_scaled_not_clipped(ending: str, tmp_path: Path) -> None:
    np.testing.assert_array_equal(pixels(saved(Image.fromarray(DEEP_RAMP), tmp_path / f"a.{ending}")), gray(RAMP))


def test_16_bit_pgm(tmp_path: Path) -> None:
    path = tmp_path / "a.pgm"
    path.write_bytes(b"P5 16 16 65535\n" + DEEP_RAMP.astype(">u2").tobytes())
    np.testing.assert_array_equal(pixels(path), gray(RAMP))


def test_16_bit_grayscale_of_the_other_byte_order(tmp_path: Path) -> None:
    image = Image.fromarray(DEEP_RAMP.astype(">u2"))
    assert image.mode == "I;16B"
    np.testing.assert_array_equal(pixels(saved(image, tmp_path / "a.tif")), gray(RAMP))


def test_32_bit_grayscale_with_16_bit_values(tmp_path: Path) -> None:
    image = Image.fromarray(DEEP_RAMP.astype(np.int32))
    assert image.mode == "I"
    np.testing.assert_array_equal(pixels(saved(image, tmp_path / "a.tif")), gray(RAMP))


@pytest.mark.parametrize("value", [-1, 65536])
def test_32_bit_grayscale_beyond_16_bits_is_refused(value: int, tmp_path: Path) -> None:
    image = Image.fromarray(np.full((4, 4), value, np.int32))
    with pytest.raises(UnusableImageError, match=r"0\.\.65535"):
        read_rgb(saved(image, tmp_path / "a.tif"))


@pytest.mark.parametrize(("colour_type", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_16_bit_png_of_every_kind(colour_type: int, channels: int, tmp_path: Path) -> None:
    values = np.full((4, 4, channels), 0x80FF)
    if channels in (2, 4):
        values[..., -1] = 0xFFFF
    path = tmp_path / "a.png"
    path.write_bytes(deep_png(values, colour_type))
    assert np.abs(pixels(path).astype(int) - 0x80).max() <= 1


def test_floating_point(tmp_path: Path) -> None:
    image = Image.fromarray((RAMP / 255).astype(np.float32))
    np.testing.assert_array_equal(pixels(saved(image, tmp_path / "a.tif")), gray(RAMP))


@pytest.mark.parametrize("value", [-0.1, 1.5, 255.0, np.nan, np.inf])
def test_floating_point_of_unknown_range_is_refused(value: float, tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0.5, value]], np.float32))
    with pytest.raises(UnusableImageError, match=r"outside 0\.\.1"):
        read_rgb(saved(image, tmp_path / "a.tif"))


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "LAB"])
def test_print_and_video_colours(mode: str, tmp_path: Path) -> None:
    image = Image.new("RGB", (16, 16), (200, 40, 90)).convert(mode)
    path = saved(image, tmp_path / "a.tif")
    try:
        Image.open(path).load()
    except Exception as error:  # noqa: BLE001  (Pillow 12 and older raise several kinds here)
        pytest.skip(f"this Pillow cannot read the {mode} file it wrote: {error!r}")
    assert np.abs(pixels(path).astype(int) - (200, 40, 90)).max() <= 4


def test_cmyk_jpeg_is_not_inverted(tmp_path: Path) -> None:
    image = Image.new("CMYK", (16, 16), (0, 0, 0, 0))
    assert pixels(saved(image, tmp_path / "a.jpg")).min() >= 250


def test_palette(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    assert pixels(saved(image, tmp_path / "a.png")).tolist() == [[[10, 20, 30], [200, 100, 50]]]


@pytest.mark.parametrize("transparency", [0, b"\x00\xff"])
def test_palette_with_transparency_is_laid_over_white(transparency: int | bytes, tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    path = saved(image, tmp_path / "a.png", transparency=transparency)
    assert pixels(path).tolist() == [[[255, 255, 255], [200, 100, 50]]]


@pytest.mark.parametrize(("mode", "transparency"), [("L", 7), ("RGB", (7, 7, 7)), ("1", 0)])
def test_a_transparent_colour_is_laid_over_white(
    mode: str, transparency: int | tuple[int, ...], tmp_path: Path
) -> None:
    image = Image.new(mode, (2, 2), transparency)
    assert pixels(saved(image, tmp_path / "a.png", transparency=transparency)).min() == 255


@pytest.mark.parametrize(("mode", "ending"), [("RGBA", "png"), ("RGBA", "webp"), ("LA", "png"), ("RGBA", "tif")])
def test_transparency_is_laid_over_white(mode: str, ending: str, tmp_path: Path) -> None:
    image = Image.new("RGBA", (16, 16), (0, 0, 0, 0)).convert(mode)
    assert pixels(saved(image, tmp_path / f"a.{ending}")).min() == 255
    half = Image.new("RGBA", (16, 16), (0, 0, 0, 127)).convert(mode)
    assert pixels(saved(half, tmp_path / f"b.{ending}"))[0, 0, 0] == pytest.approx(128, abs=2)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["png", "jpg", "tif", "webp"])
def test_orientation_is_applied(orientation: int, ending: str, tmp_path: Path) -> None:
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, :16], upright[8:, :16] = 250, 120
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"jpg": {"quality": 100, "subsampling": 0}, "webp": {"lossless": True}}.get(ending, {})
    path = saved(Image.fromarray(np.ascontiguousarray(stored)), tmp_path / f"a.{ending}", exif=exif, **options)
    seen = pixels(path)
    assert seen.shape == upright.shape
    assert np.abs(seen.astype(int) - upright).max() <= 6


def test_damaged_exif_does_no_harm(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    path = saved(
        Image.new("RGB", (8, 8), "white"), tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01\xff"
    )
    assert pixels(path).min() == 255
    assert not recwarn.list


@pytest.mark.parametrize("ending", ["gif", "webp", "png", "tif"])
def test_first_frame_of_several(ending: str, tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    path = saved(frames[0], tmp_path / f"a.{ending}", save_all=True, append_images=frames[1:])
    assert np.abs(pixels(path).astype(int) - (255, 0, 0)).max() <= 3


def test_ending_does_not_matter(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), "red").save(tmp_path / "a.jpg", format="PNG")
    assert pixels(tmp_path / "a.jpg")[0, 0].tolist() == [255, 0, 0]


def content(ending: str) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, {"jpg": "JPEG", "tif": "TIFF"}.get(ending, ending.upper()))
    return file.getvalue()


@pytest.mark.parametrize("ending", ["jpg", "png", "gif", "tif", "webp", "bmp", "ppm"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.9])
def test_cut_short(ending: str, share: float, tmp_path: Path) -> None:
    whole = content(ending)
    path = tmp_path / f"a.{ending}"
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ConfigError, match=f"{path}.*--skip-bad-images"):
        read_rgb(path)


def mode_or_message(path: Path) -> str:
    try:
        return read_rgb(path).mode
    except UnusableImageError as error:
        return str(error)


@pytest.mark.parametrize("ending", ["jpg", "png", "gif", "tif", "webp", "bmp", "ppm"])
def test_damaged_anywhere_is_either_read_or_refused(ending: str, tmp_path: Path) -> None:
    whole, random = content(ending), np.random.default_rng(1)
    path = tmp_path / f"a.{ending}"
    for _ in range(60):
        damaged = bytearray(whole)
        for place in random.integers(0, min(len(whole), 600), 4):
            damaged[place] = random.integers(256)
        path.write_bytes(bytes(damaged))
        outcome = mode_or_message(path)
        assert outcome == "RGB" or str(path) in outcome


@pytest.mark.parametrize(
    ("bytes_in_it", "word"),
    [
        (b"", "an empty file"),
        (b"<html>404</html>", "not an image of a kind"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image of a kind"),
        (b"P5 0 0 255\n", ""),
        (b"P5 0 7 255\n", ""),
    ],
)
def test_not_an_image(bytes_in_it: bytes, word: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(bytes_in_it)
    with pytest.raises(ConfigError, match=f"Cannot use the image {path}: {word}"):
        read_rgb(path)


def test_missing_folder_and_pipe(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read_rgb(tmp_path / "a.jpg")
    with pytest.raises(ConfigError, match="not a file"):
        read_rgb(tmp_path)
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(ConfigError, match="not a file"):
        read_rgb(tmp_path / "pipe.jpg")


@pytest.mark.parametrize("side", [9_600, 60_000])
def test_decompression_bomb(side: int, tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(deep_png(np.zeros((1, 1, 3)), 2, claimed_side=side))
    with pytest.raises(ConfigError, match="more than 89 million pixels"):
        read_rgb(path)
    assert not recwarn.list


def test_warning_filters_are_left_as_they_were(tmp_path: Path) -> None:
    path = saved(Image.new("RGB", (200, 200)), tmp_path / "a.png")
    before = list(warnings.filters)
    threads = [threading.Thread(target=lambda: [read_rgb(path) for _ in range(30)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before


def test_names_of_any_kind(tmp_path: Path) -> None:
    for name in ("a b.png", "🐈 ñ.png", "x#%?.png", "new\nline.png"):
        assert pixels(saved(Image.new("RGB", (2, 2)), tmp_path / name)).shape == (2, 2, 3)
    raw = os.fsencode(tmp_path) + b"/\xff.png"
    try:
        Path(os.fsdecode(raw)).write_bytes(b"no image")
    except OSError:
        pytest.skip("this file system takes Unicode names only")
    with pytest.raises(ConfigError) as caught:
        read_rgb(Path(os.fsdecode(raw)))
    str(caught.value).encode()


def test_a_photograph(tmp_path: Path) -> None:
    photograph = Image.linear_gradient("L").resize((2000, 1500)).convert("RGB")
    assert pixels(saved(photograph, tmp_path / "IMG_0001.JPG")).shape == (1500, 2000, 3)
