"""What is packed, that it is always the same, and that nothing half-written stays."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time

import pytest
from archive_samples import content, sample_package, unpacked, write_version
from full_disk import room_for

from mimi_edge.errors import ArtifactError, ConfigError
from mimi_edge.export.archives.install import install_from
from mimi_edge.export.archives.pack import pack
from mimi_edge.export.archives.verify import verify
from mimi_edge.export.open_packages import read_package
from mimi_edge.files import sha256_of

TASKS = {"a.onnx", "a.safetensors", "b.onnx", "b.safetensors"}
TEXTS = {"manifest.json", "SHA256SUMS", "README.txt"}


def test_a_full_archive_holds_the_package(package, full):
    found = unpacked(full)
    assert set(found) == TEXTS | TASKS | {"backbone.onnx", "backbone.weights"}
    assert list(found)[:3] == ["manifest.json", "SHA256SUMS", "README.txt"]
    for name, data in content(package.folder).items():
        assert name == "manifest.json" or found[name] == data


def test_a_delta_holds_only_tasks_and_names_the_backbone_it_needs(package, full, delta):
    found = unpacked(delta)
    assert set(found) == TEXTS | TASKS
    document = json.loads(found["manifest.json"])
    assert document["backbone"]["sha256"] == package.backbone.sha256
    needs = document["archive"]["needs"]
    assert {name: entry["sha256"] for name, entry in needs.items()} == {
        name: sha256_of(package.folder / name) for name in ("backbone.onnx", "backbone.weights")
    }
    assert delta.stat().st_size < full.stat().st_size


def test_the_same_inputs_give_the_same_bytes(package, full, tmp_path):
    """In another folder, in another order, with other times, modes and umask, and from another folder of work."""
    other = sample_package(tmp_path / "other", {"b": (1, 1, 1), "a": (2, 0, 1)}).folder
    for path in other.iterdir():
        path.chmod(0o600)
        os.utime(path, (time.time() - 1e6,) * 2)
    before = os.umask(0o077)
    try:
        packed = pack(other, tmp_path / "archive.tar", tasks=["b", "a", "b"])
    finally:
        os.umask(before)
    assert packed.path.read_bytes() == full.read_bytes()
    assert packed.sha256 == sha256_of(full)
    assert packed.size_bytes == full.stat().st_size


def test_an_installed_archive_packs_to_the_same_bytes(full, delta, tmp_path):
    install_from(full, tmp_path / "device")
    assert pack(tmp_path / "device", tmp_path / "full.tar").path.read_bytes() == full.read_bytes()
    again = pack(tmp_path / "device", tmp_path / "delta.tar", with_backbone=False)
    assert again.path.read_bytes() == delta.read_bytes()


def test_what_belongs_to_one_machine_stays_there(place, full):
    package = place / "package"
    (package / "engines").mkdir()
    (package / "engines" / "shared.fp16.engine").write_bytes(b"built here")
    (package / "notes.txt").write_text("mine")
    install_from(write_version(place / "a.safetensors", "a", (0, 0, 2)), package)
    assert (package / ".previous").is_dir()
    shutil.copyfile(full, place / "full.tar")
    install_from(full, package)
    assert pack(package, place / "again.tar").path.read_bytes() == full.read_bytes()


def test_plain_tools_unpack_a_package(full, tmp_path):
    folder = tmp_path / "package"
    folder.mkdir()
    subprocess.run(["tar", "-xf", str(full), "-C", str(folder)], check=True)
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=folder, check=True, capture_output=True)
    assert list(read_package(folder).tasks) == ["a", "b"]
    assert verify(folder).faults == ()
    # It stays one when a task comes, and packs to the same archive.
    install_from(full, folder)
    assert pack(folder, tmp_path / "again.tar").path.read_bytes() == full.read_bytes()


def test_some_tasks_are_chosen(package, tmp_path):
    packed = pack(package.folder, tmp_path / "b.tar", tasks=["b"], with_backbone=False)
    assert set(unpacked(packed.path)) == TEXTS | {"b.onnx", "b.safetensors"}
    with pytest.raises(ConfigError, match="no task 'c'"):
        pack(package.folder, tmp_path / "c.tar", tasks=["b", "c"])
    assert [path.name for path in tmp_path.iterdir()] == ["b.tar"]


def test_names_of_any_letters_and_length_travel(tmp_path):
    names = ["Blüten & 花", "x" * 180]
    source = sample_package(tmp_path / "source", dict.fromkeys(names, (1, 0, 0)))
    install_from(pack(source.folder, tmp_path / "archive.tar").path, tmp_path / "device")
    assert content(tmp_path / "device") == content(source.folder)


def test_the_text_says_what_to_do_and_what_happens_to_images(full, delta):
    for archive in (full, delta):
        text = unpacked(archive)["README.txt"].decode()
        assert all(said in text for said in ("mimi-edge verify", "mimi-edge install-task", "--rollback"))
        assert all(said in text for said in ("bilinear", "4 x 4", "[0.5, 0.5, 0.5]"))


def test_names_that_differ_only_in_case_are_not_packed(tmp_path):
    source = sample_package(tmp_path / "source", {"Digits": (1, 0, 0), "digits": (0, 1, 0)})
    with pytest.raises(ConfigError, match="only in case"):
        pack(source.folder, tmp_path / "archive.tar")
    assert not (tmp_path / "archive.tar").exists()
    pack(source.folder, tmp_path / "archive.tar", tasks=["digits"])


def test_nothing_is_nothing_to_pack(tmp_path, package):
    with pytest.raises(ConfigError, match="nothing to pack"):
        pack(package.folder, tmp_path / "archive.tar", tasks=[], with_backbone=False)


@pytest.mark.parametrize("name", ["backbone.weights", "backbone.onnx", "a.onnx", "a.safetensors"])
def test_a_damaged_package_is_not_packed(place, name):
    path = place / "package" / name
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    (place / "archive.tar").write_bytes(b"older")
    with pytest.raises(ArtifactError):
        pack(place / "package", place / "archive.tar")
    assert (place / "archive.tar").read_bytes() == b"older"
    assert {path.name for path in place.iterdir()} == {"package", "archive.tar"}


def test_an_archive_is_not_written_over_the_package_or_a_folder(place):
    before = content(place)
    for out in (place / "package" / "backbone.weights", place / "package" / "new.tar", place):
        with pytest.raises(ConfigError):
            pack(place / "package", out)
    assert content(place) == before


def test_a_full_disk_leaves_nothing_of_an_archive(package, full, tmp_path):
    for room in (0, 700, full.stat().st_size - 1):
        with room_for(room), pytest.raises(OSError, match=r"archive\.tar"):
            pack(package.folder, tmp_path / "archive.tar")
        assert list(tmp_path.iterdir()) == []
    with room_for(full.stat().st_size):
        pack(package.folder, tmp_path / "archive.tar")


def test_progress_is_told_up_to_the_end(package, tmp_path):
    heard = []
    pack(package.folder, tmp_path / "archive.tar", listener=heard.append)
    assert (heard[0].done, heard[-1].done) == (0, heard[-1].total)
