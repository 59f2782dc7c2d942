"""One rule says which files are images, and a folder lists them in the same order everywhere."""

import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from mimi_edge.images import formats
from mimi_edge.images.find_files import image_files, left_out_note
from mimi_edge.images.formats import is_image, is_image_name, reader_line
from mimi_edge.images.read_image import UnusableImageError, read_rgb

AVIF, HEIF = "AVIF" in formats.formats(), "HEIF" in formats.formats()
needs_avif = pytest.mark.skipif(not AVIF, reason="this Pillow reads no AVIF")
needs_heif = pytest.mark.skipif(not HEIF, reason="pillow-heif is not installed")


@pytest.fixture
def only_always(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As on a machine with an old Pillow and without the optional part."""
    monkeypatch.setattr(formats, "_reads_avif", lambda: False)
    monkeypatch.setattr(formats, "_reads_heif", lambda: False)
    formats.formats.cache_clear()
    formats.suffixes.cache_clear()
    yield
    formats.formats.cache_clear()
    formats.suffixes.cache_clear()


def encoded(kind: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(file, kind)
    return file.getvalue()


def written(path: Path, content: bytes = b"") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_the_order_is_that_of_paths(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/10.png", "a.png", "b.png", "B/1.PNG", "a/deep/er/x.jpg"):
        written(tmp_path / name)
    found = image_files(tmp_path)
    assert list(found.images) == sorted(["b/2.png", "b/10.png", "a.png", "b.png", "B/1.PNG", "a/deep/er/x.jpg"])
    assert list(found.images.values()) == [tmp_path / name for name in found.images]
    assert found.left_out == {}


def test_hidden_and_left_behind_files_are_not_there(tmp_path: Path) -> None:
    for name in (".a.png", "._b.png", ".git/c.png", "__MACOSX/d.png", "@eaDir/e.png", "Thumbs.db", "desktop.ini"):
        written(tmp_path / name)
    found = image_files(tmp_path)
    assert (dict(found.images), found.left_out) == ({}, {})


def test_names_are_relative_to_another_folder_if_asked(tmp_path: Path) -> None:
    written(tmp_path / "train" / "cat" / "1.png")
    assert list(image_files(tmp_path / "train" / "cat", inside=tmp_path).images) == ["train/cat/1.png"]


def test_loops_end_and_are_named(tmp_path: Path) -> None:
    written(tmp_path / "a.png")
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    found = image_files(tmp_path)
    assert list(found.images) == ["a.png"]
    assert found.links == ("loop",)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "AVIF", "HEIF"])
@pytest.mark.parametrize("name", ["IMG_0001", "IMG_0001.jpg-large", "image.php?id=7", "x.unknown"])
def test_content_decides_where_the_ending_says_nothing(kind: str, name: str, tmp_path: Path) -> None:
    if kind not in formats.formats():
        pytest.skip(f"{kind} cannot be read here")
    path = written(tmp_path / name, encoded(kind))
    assert not is_image_name(name)
    assert list(image_files(tmp_path).images) == [name]
    assert read_rgb(path).size == (16, 16)


def test_tiff_is_known_by_content_only_without_an_ending(tmp_path: Path) -> None:
    written(tmp_path / "scan", encoded("TIFF"))
    written(tmp_path / "raw.nef", encoded("TIFF"))
    found = image_files(tmp_path)
    assert list(found.images) == ["scan"]
    assert found.left_out == {".nef": 1}


@pytest.mark.parametrize("name", ["half.png.part", "half.crdownload", "label.txt", "labels.csv", "old.bak"])
def test_what_is_unfinished_or_a_label_is_no_image_whatever_it_holds(name: str, tmp_path: Path) -> None:
    written(tmp_path / name, encoded("PNG"))
    assert not image_files(tmp_path).images


@pytest.mark.parametrize("content", [b"", b"B", b"BM", b"BMW and Audi", b"GIF", b"....ftypisom", b"RIFF....WAVEfmt "])
def test_other_content_is_no_image(content: bytes, tmp_path: Path) -> None:
    assert not is_image(str(written(tmp_path / "a", content)))


def test_pipes_and_dangling_links_do_not_keep_it_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    assert image_files(tmp_path).left_out == {"no ending": 2}


@pytest.mark.usefixtures("only_always")
def test_what_could_be_read_says_how(tmp_path: Path) -> None:
    for name in ("a.heic", "b.HEIC", "c.avif", "d.mp4", "e.png"):
        written(tmp_path / name)
    found = image_files(tmp_path)
    assert list(found.images) == ["e.png"]
    note = left_out_note(found.left_out) or ""
    assert "Left out 4 files that cannot be read as images: 2 x .heic, 1 x .avif, 1 x .mp4." in note
    assert f"To read .heic: {reader_line('.heic')}" in note
    assert "[heic]" in note
    assert 'install --upgrade "Pillow' in note


@pytest.mark.usefixtures("only_always")
def test_a_file_that_could_be_read_says_how(tmp_path: Path) -> None:
    path = written(tmp_path / "a.heic", b"\0\0\0\x18ftypheic" + bytes(12))
    with pytest.raises(UnusableImageError, match=r"to read \.heic: .*heic"):
        read_rgb(path)


def test_nothing_left_out_has_no_note() -> None:
    assert left_out_note({}) is None


def halves(side: int = 64) -> Image.Image:
    """Red on the left, blue on the right, twice as wide as high."""
    image = Image.new("RGB", (2 * side, side), "blue")
    image.paste("red", (0, 0, side, side))
    return image


@pytest.mark.parametrize(
    ("kind", "ending"),
    [pytest.param("AVIF", ".avif", marks=needs_avif), pytest.param("HEIF", ".heic", marks=needs_heif)],
)
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_phones_newer_formats_are_read_upright(kind: str, ending: str, orientation: int, tmp_path: Path) -> None:
    turns = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
    stored = halves().transpose(turns[orientation]) if orientation in turns else halves()
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"IMG_1{ending}"
    stored.info["exif"] = exif.tobytes()  # So pillow-heif writes it as phones do: as a turn of the image itself.
    stored.save(path, kind, exif=exif.tobytes(), quality=95)
    assert list(image_files(tmp_path).images) == [path.name]
    image = read_rgb(path)
    assert (image.mode, image.size) == ("RGB", (128, 64))
    assert image.getpixel((20, 30)) == pytest.approx((254, 0, 0), abs=12)
    assert image.getpixel((110, 30)) == pytest.approx((0, 0, 254), abs=12)


@pytest.mark.parametrize(
    ("kind", "ending"),
    [pytest.param("AVIF", ".avif", marks=needs_avif), pytest.param("HEIF", ".heic", marks=needs_heif)],
)
def test_their_transparency_is_laid_over_white(kind: str, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{ending}"
    Image.new("RGBA", (32, 32), (0, 0, 0, 0)).save(path, kind)
    assert min(low for low, _ in read_rgb(path).getextrema()) >= 250


@pytest.mark.parametrize(
    ("kind", "ending"),
    [pytest.param("AVIF", ".avif", marks=needs_avif), pytest.param("HEIF", ".heic", marks=needs_heif)],
)
@pytest.mark.parametrize("share", [0.1, 0.6, 0.95])
def test_cut_short_they_are_named(kind: str, ending: str, share: float, tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.effect_noise((64, 64), 80).convert("RGB").save(file, kind)
    content = file.getvalue()
    path = written(tmp_path / f"a{ending}", content[: int(len(content) * share)])
    with pytest.raises(UnusableImageError, match=str(path)):
        read_rgb(path)
