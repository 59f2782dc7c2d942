"""Folders that appear whole or not at all, and what is said where they cannot."""

import errno

import pytest

from mimi_edge.export.staging import staging_folder
from mimi_edge.files import whole_file


@pytest.mark.parametrize(
    ("error", "named"),
    [
        (lambda folder: OSError(errno.ENOSPC, "No space left on device"), ""),
        (lambda folder: OSError("4096 requested and 0 written"), ""),
        (lambda folder: OSError(errno.ENOSPC, "No space left on device", str(folder / "x.onnx")), "/x.onnx"),
        (lambda folder: OSError(errno.EIO, "Input/output error", "/source", None, str(folder / "x")), "/x"),
    ],
)
def test_what_could_not_be_written_is_named_by_its_own_name(error, named, tmp_path):
    place = tmp_path / "package"

    def filled():
        with staging_folder(place) as folder:
            raise error(folder)

    with pytest.raises(OSError, match="nothing of it was kept") as caught:
        filled()
    assert (caught.value.filename, caught.value.filename2) == (f"{place}{named}", None)
    assert list(tmp_path.iterdir()) == []


def test_what_could_not_be_read_keeps_its_name(tmp_path):
    def filled():
        with staging_folder(tmp_path / "package"):
            (tmp_path / "elsewhere").read_bytes()

    with pytest.raises(FileNotFoundError) as caught:
        filled()
    assert caught.value.filename == str(tmp_path / "elsewhere")
    assert "kept" not in str(caught.value)


def test_what_was_not_kept_is_said_once(tmp_path):
    def filled():
        with staging_folder(tmp_path / "package") as folder, whole_file(folder / "x"):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space") as caught:
        filled()
    assert str(caught.value).count("nothing of it was kept") == 1
    assert caught.value.filename == str(tmp_path / "package" / "x")
