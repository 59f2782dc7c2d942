"""Verifying packages: every fault of every kind, together."""

from __future__ import annotations

import json
import os

import pytest
from archive_samples import content

from mimi_edge.errors import ArtifactError, ConfigError
from mimi_edge.export.archives.install import install_from
from mimi_edge.export.archives.read import examine
from mimi_edge.export.archives.verify import checked_sha256, in_words, verify
from mimi_edge.files import sha256_of


@pytest.fixture
def folder(place):
    return place / "package"


def _listed_anew(folder, *names):
    """Makes the manifest say what the files are now."""
    document = json.loads((folder / "manifest.json").read_text())
    for name in names:
        path = folder / name
        document["files"][name] = {"sha256": sha256_of(path), "size_bytes": path.stat().st_size}
    (folder / "manifest.json").write_text(json.dumps(document))


def test_a_whole_package(folder, package):
    before = content(folder)
    verdict = verify(folder)
    assert (verdict.kind, verdict.faults, verdict.tasks) == ("package", (), ("a", "b"))
    assert verdict.backbone == package.backbone
    assert verdict.size_bytes == sum(len(data) for name, data in before.items() if name != "manifest.json")
    assert content(folder) == before


def test_every_fault_is_named(folder):
    for name in ("a.onnx", "b.safetensors"):
        data = bytearray((folder / name).read_bytes())
        data[-1] ^= 1
        (folder / name).write_bytes(data)
    (folder / "b.onnx").unlink()
    (folder / "backbone.weights").write_bytes(b"short")
    said = "\n".join(verify(folder).faults)
    for name in ("a.onnx", "b.safetensors", "b.onnx", "backbone.weights"):
        assert name in said, name


def test_what_is_no_file_is_named_and_never_opened(folder):
    """Opening a pipe that nobody writes to would take for ever."""
    for name in ("a.safetensors", "a.onnx", "backbone.onnx"):
        (folder / name).unlink()
        os.mkfifo(folder / name)
    (folder / "b.onnx").rename(folder.parent / "b.onnx")
    (folder / "b.onnx").symlink_to(folder.parent / "b.onnx")
    said = verify(folder).faults
    assert {fault.split()[0] for fault in said} >= {"a.safetensors", "a.onnx", "backbone.onnx", "b.onnx"}


def test_files_that_do_not_belong_together_are_named_though_hashes_agree(folder):
    a, b = (folder / "a.onnx").read_bytes(), (folder / "b.onnx").read_bytes()
    (folder / "a.onnx").write_bytes(b)
    (folder / "b.onnx").write_bytes(a)
    _listed_anew(folder, "a.onnx", "b.onnx")
    said = "\n".join(verify(folder).faults)
    assert "a.onnx was not made from a.safetensors" in said
    assert "b.onnx was not made from b.safetensors" in said


def test_a_task_file_that_cannot_be_read_is_named_though_its_hash_agrees(folder):
    (folder / "a.safetensors").write_bytes(b"no task")
    _listed_anew(folder, "a.safetensors")
    assert any("a.safetensors is not a whole task file" in fault for fault in verify(folder).faults)


@pytest.mark.parametrize("text", ["", "{}", '{"schema": 9}', "[" * 100_000, '{"schema": 1e999}'])
def test_a_manifest_that_cannot_be_read_is_the_fault(folder, text):
    (folder / "manifest.json").write_text(text)
    verdict = verify(folder)
    assert len(verdict.faults) == 1
    assert "manifest.json" in verdict.faults[0]


def test_a_folder_that_is_no_package_is_said_to_be_none(tmp_path):
    assert "not a package" in verify(tmp_path).faults[0]


def test_what_is_no_package_is_not_told_to_install_tasks_again(tmp_path):
    assert "Install its tasks again" not in in_words(verify(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    assert f"the folder of a run, not a package. Put its task into one: mimi-edge export {tmp_path}" in in_words(
        verify(tmp_path)
    )


@pytest.mark.parametrize("ask", [verify, examine, lambda path: install_from(path, path.parent / "package")])
def test_a_pipe_is_said_to_be_one(ask, tmp_path):
    os.mkfifo(tmp_path / "robot.mimi")
    with pytest.raises(ArtifactError, match=r"it is a pipe, no regular file\. .* save it to a file first"):
        ask(tmp_path / "robot.mimi")
    with pytest.raises(ArtifactError, match="There is no file"):
        ask(tmp_path / "gone.mimi")


def test_a_sha256_is_of_a_file(folder):
    with pytest.raises(ConfigError, match="is a folder"):
        verify(folder, sha256="0" * 64)


@pytest.mark.parametrize("value", ["", "abc", "g" * 64, "0" * 63, "0" * 65])
def test_what_is_no_sha256_is_refused(value):
    with pytest.raises(ConfigError, match="64 hexadecimal"):
        checked_sha256(value)


def test_letters_of_a_sha256_may_be_large():
    assert checked_sha256(" " + "AB" * 32 + "\n") == "ab" * 32


@pytest.mark.parametrize(
    "spoil",
    [
        {"leaving": ["../x.onnx"]},
        {"leaving": ["a.onnx"]},
        {"leaving": ["precious.txt"]},
        {"leaving": [5]},
        {"previous": {"x": None}},
        {"previous": {"a": {}}},
        {"previous": {"a": {"task": {"sha256": "../x", "size_bytes": 1}, "graph": {}, "check": {}}}},
        {"previous": []},
    ],
)
def test_a_manifest_cannot_ask_for_what_is_not_its_own(folder, spoil):
    precious = folder / "precious.txt"
    precious.write_text("mine")
    (folder.parent / "x.onnx").write_text("mine")
    document = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(document | spoil))
    before = content(folder.parent)
    assert verify(folder).faults
    assert content(folder.parent) == before
