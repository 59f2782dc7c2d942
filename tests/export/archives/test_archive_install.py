"""Tasks that come to a device and go back: together or not at all, whatever happens meanwhile."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import tiny_package
from archive_samples import content, sample_package, write_version
from disk_trouble import full_at_every_write, killed_at
from full_disk import room_for
from tiny_package import IDENTITY, SIZE

from mimi_edge.errors import ArtifactError, ConfigError
from mimi_edge.export.archives import earlier_version
from mimi_edge.export.archives.earlier_version import keep, kept_tasks
from mimi_edge.export.archives.install import install_from
from mimi_edge.export.archives.pack import pack
from mimi_edge.export.archives.verify import verify
from mimi_edge.export.manifest import read_manifest
from mimi_edge.export.onnx_runtime import open_graph
from mimi_edge.export.open_packages import read_package
from mimi_edge.export.packages import create_or_extend, roll_back
from mimi_edge.files import sha256_of

IMAGES = np.random.default_rng(3).standard_normal((2, 3, SIZE, SIZE), np.float32)


@pytest.fixture
def device(place):
    """A package with the tasks a and b."""
    return place / "package"


@pytest.fixture
def newer(tmp_path):
    """An archive of tasks alone: another a, and c."""
    source = sample_package(tmp_path / "newer", {"a": (0, 3, 0), "c": (1, 0, 0)})
    return pack(source.folder, tmp_path / "newer.tar", with_backbone=False).path


def _tasks(package):
    """Of each task, what its task file hashes to; everything is checked on the way."""
    assert verify(package).faults == ()
    return {name: sha256_of(task.task_file) for name, task in read_package(package).tasks.items()}


def _hidden(folder):
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def test_a_full_archive_makes_the_package_it_was_packed_from(package, full, tmp_path):
    installed = install_from(full, tmp_path / "out" / "device")
    assert (installed.created, installed.change.added) == (True, ("a", "b"))
    assert installed.sha256 == sha256_of(full)
    assert content(tmp_path / "out" / "device") == content(package.folder)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["device"]


def test_an_empty_folder_becomes_the_package(full, tmp_path):
    (tmp_path / "device").mkdir()
    assert install_from(full, tmp_path / "device").created


def test_an_archive_adds_and_replaces(device, newer):
    before = _tasks(device)
    change = install_from(newer, device).change
    assert (change.added, change.replaced, change.unchanged) == (("c",), ("a",), ())
    after = _tasks(device)
    assert list(after) == ["a", "b", "c"]
    assert after["b"] == before["b"]
    assert after["a"] != before["a"]


def test_a_task_file_is_merged_as_an_export_merges_it(device, tmp_path):
    file = write_version(tmp_path / "new.safetensors", "c", (1, 2, 0))
    assert install_from(file, device).change.added == ("c",)
    source = sample_package(tmp_path / "other", {"c": (1, 2, 0)})
    assert (device / "c.onnx").read_bytes() == source.task("c").graph.read_bytes()
    assert read_package(device).task("c").check["outputs"].startswith("not run")
    assert open_graph(device / "c.onnx").run(IMAGES).shape == (2, 3)


def test_going_back_brings_the_same_bytes_and_the_same_answers(device, newer):
    before, answers = content(device), open_graph(device / "a.onnx").run(IMAGES)
    install_from(newer, device)
    assert not np.array_equal(open_graph(device / "a.onnx").run(IMAGES), answers)
    change = roll_back(device)
    assert (change.replaced, change.removed, change.kept_bytes) == (("a",), ("c",), 0)
    assert content(device) == before
    assert np.array_equal(open_graph(device / "a.onnx").run(IMAGES), answers)


def test_one_goes_back_once(device, newer):
    install_from(newer, device)
    roll_back(device)
    with pytest.raises(ConfigError, match="keeps no earlier version"):
        roll_back(device)


def test_exactly_one_earlier_version_is_kept_and_its_bytes_are_told(device, tmp_path):
    versions = [(0, 0, count) for count in (1, 2, 3)]
    seen = [_tasks(device)["a"]]
    for number, neurons in enumerate(versions):
        change = install_from(write_version(tmp_path / f"{number}.safetensors", "a", neurons), device).change
        kept = content(device / ".previous")
        assert len(kept) == 2
        assert change.kept_bytes == sum(map(len, kept.values())) == verify(device).kept_bytes > 0
        seen.append(_tasks(device)["a"])
    roll_back(device)
    assert _tasks(device)["a"] == seen[2]
    assert _hidden(device) == []


def test_what_is_there_already_is_left_alone_and_the_version_before_stays(device, newer, tmp_path):
    file = write_version(tmp_path / "new.safetensors", "a", (0, 0, 1))
    before = _tasks(device)
    install_from(file, device)
    whole = content(device)
    change = install_from(file, device).change
    assert (change.unchanged, change.added, change.replaced) == (("a",), (), ())
    assert change.kept_bytes > 0
    assert content(device) == whole
    roll_back(device)
    assert _tasks(device) == before


def test_an_export_into_the_package_ends_the_way_back(device, newer, tmp_path):
    install_from(newer, device)
    create_or_extend(device, None, [write_version(tmp_path / "b.safetensors", "b", (0, 0, 1))])
    assert _hidden(device) == []
    with pytest.raises(ConfigError):
        roll_back(device)


@pytest.mark.parametrize("damage", ["altered", "missing", "a link"])
def test_a_kept_version_that_is_damaged_is_not_gone_back_to(device, newer, damage):
    install_from(newer, device)
    kept = min((device / ".previous").iterdir())
    whole = kept.read_bytes()
    kept.unlink()
    if damage == "altered":
        kept.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    if damage == "a link":
        (device.parent / "elsewhere").write_bytes(whole)
        kept.symlink_to(device.parent / "elsewhere")
    before = content(device)
    assert any(".previous" in fault for fault in verify(device).faults)
    with pytest.raises(ArtifactError, match="damaged"):
        roll_back(device)
    assert content(device) == before


def test_tasks_of_another_backbone_are_refused(device, tmp_path, monkeypatch):
    other = replace(IDENTITY, sha256="8" * 64)
    file = write_version(tmp_path / "other.safetensors", "c", (1, 0, 0), other)
    monkeypatch.setattr(tiny_package, "IDENTITY", other)
    source = sample_package(tmp_path / "other", {"c": (1, 0, 0)}).folder
    archives = [pack(source, tmp_path / f"{full}.tar", with_backbone=full).path for full in (True, False)]
    before = content(device.parent)
    for given in (file, *archives):
        with pytest.raises(ArtifactError, match="a package of its own backbone"):
            install_from(given, device)
    assert content(device.parent) == before


def test_what_is_kept_already_is_not_written_again(device, monkeypatch):
    """A process that is killed in the middle of that would spoil what the manifest still asks for."""
    manifest = read_manifest(device)
    previous = kept_tasks(manifest, ["a"])
    keep(device, manifest, previous)
    before = content(device)
    assert {sha256_of(path) for path in (device / ".previous").iterdir()} == {
        sha256_of(device / name) for name in ("a.onnx", "a.safetensors")
    }
    monkeypatch.setattr(earlier_version.shutil, "copyfile", lambda *_paths: pytest.fail("it was written again"))
    keep(device, manifest, previous)
    assert content(device) == before


def test_tasks_come_to_a_backbone_that_lies_in_another_file(device, newer, tmp_path):
    """The same network, exported by another version: graphs made for the one file do not fit the other."""
    weights = device / "backbone.weights"
    weights.write_bytes(weights.read_bytes() + bytes(64))
    manifest = json.loads((device / "manifest.json").read_text())
    manifest["files"]["backbone.weights"] = {"sha256": sha256_of(weights), "size_bytes": weights.stat().st_size}
    (device / "manifest.json").write_text(json.dumps(manifest))
    heard = []
    install_from(newer, device, listener=heard.append)
    assert any("merged into its graph here" in getattr(event, "text", "") for event in heard)
    assert list(_tasks(device)) == ["a", "b", "c"]
    assert read_package(device).task("c").check["outputs"].startswith("not run")


def test_a_name_that_differs_only_in_case_from_one_in_the_package_is_refused(device, tmp_path):
    before = content(device.parent)
    with pytest.raises(ConfigError, match="only in case"):
        install_from(write_version(tmp_path / "x.safetensors", "A", (1, 0, 0)), device)
    assert content(device.parent) == before


def test_tasks_alone_need_a_package(delta, tmp_path):
    file = write_version(tmp_path / "files" / "c.safetensors", "c", (1, 0, 0))
    for source in (delta, file):
        with pytest.raises(ConfigError, match="full archive"):
            install_from(source, tmp_path / "device")
    assert [path.name for path in tmp_path.iterdir()] == ["files"]


def test_other_folders_are_left_alone(full, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"cat")
    with pytest.raises(ConfigError, match="not a package"):
        install_from(full, tmp_path / "photos")
    with pytest.raises(ConfigError, match="is a folder"):
        install_from(tmp_path / "photos", tmp_path / "device")
    with pytest.raises(ArtifactError):
        roll_back(tmp_path / "photos")
    assert content(tmp_path) == {"photos/cat.jpg": b"cat"}


def test_a_damaged_package_gets_nothing(device, newer):
    (device / "backbone.weights").write_bytes(b"x" * (device / "backbone.weights").stat().st_size)
    before = content(device.parent)
    with pytest.raises(ArtifactError, match="damaged"):
        install_from(newer, device)
    assert content(device.parent) == before


def test_the_hash_that_came_another_way_decides(device, newer, tmp_path):
    file = write_version(tmp_path / "c.safetensors", "c", (1, 0, 0))
    before = content(device.parent)
    for source in (newer, file):
        with pytest.raises(ArtifactError, match="expected 0000"):
            install_from(source, device, sha256="0" * 64)
        with pytest.raises(ConfigError, match="64"):
            install_from(source, device, sha256="abc")
        assert content(device.parent) == before
    install_from(file, device, sha256=sha256_of(file).upper())
    install_from(newer, device, sha256=sha256_of(newer))


def test_of_a_task_file_that_changes_meanwhile_what_was_read_is_installed(device, tmp_path):
    file = write_version(tmp_path / "c.safetensors", "c", (1, 0, 0))
    before, digest = file.read_bytes(), sha256_of(file)

    def exchange(_heard):
        write_version(file, "c", (2, 0, 0))

    assert install_from(file, device, sha256=digest, listener=exchange).sha256 == digest != sha256_of(file)
    assert read_package(device).task("c").task_file.read_bytes() == before
    assert verify(device).faults == ()


def _restored(device, original):
    shutil.rmtree(device.parent)
    shutil.copytree(original, device)


def test_killed_while_installing(package, device, newer):
    old, new = _tasks(package.folder), None
    seen = set()
    step, died = 0, True
    while died:
        _restored(device, package.folder)
        died = killed_at(step, lambda: install_from(newer, device))
        found = _tasks(device)
        seen.add(tuple(found))
        if found == old:
            # It can be tried again.
            install_from(newer, device)
        new = new or _tasks(device)
        assert _tasks(device) == new
        roll_back(device)
        assert content(device) == content(package.folder)
        step += 1
    assert seen == {("a", "b"), ("a", "b", "c")}
    assert step > 15


def test_killed_while_going_back(device, newer, tmp_path):
    old = content(device)
    install_from(newer, device)
    original = tmp_path / "original"
    shutil.copytree(device, original)
    new = content(original)
    seen = set()
    step, died = 0, True
    while died:
        _restored(device, original)
        died = killed_at(step, lambda: roll_back(device))
        found = _tasks(device)
        seen.add(tuple(found))
        if "c" in found:
            roll_back(device)
        # A manifest that was being written may lie there under a hidden name, until the package is changed again.
        assert {name: data for name, data in content(device).items() if not name.endswith(".part")} == old
        step += 1
    assert seen == {("a", "b"), ("a", "b", "c")}
    assert step > 10
    assert new != old


def test_killed_while_a_version_is_kept_already(device, newer, tmp_path):
    """The version before is there until the one after it is."""
    first = _tasks(device)["a"]
    install_from(write_version(tmp_path / "2.safetensors", "a", (0, 0, 2)), device)
    second = _tasks(device)["a"]
    original = tmp_path / "original"
    shutil.copytree(device, original)
    step, died = 0, True
    while died:
        _restored(device, original)
        died = killed_at(step, lambda: install_from(newer, device))
        now = _tasks(device)["a"]
        roll_back(device)
        assert _tasks(device)["a"] == (first if now == second else second)
        step += 1
    assert step > 15


def test_full_disk_while_installing_leaves_the_package_as_it_was_or_whole(package, device, newer):
    old = content(package.folder)
    for _ in full_at_every_write(lambda: install_from(newer, device)):
        if list(_tasks(device)) == ["a", "b"]:
            assert content(device) == old
        assert [path.name for path in device.parent.iterdir()] == ["package"]
        _restored(device, package.folder)
    assert list(_tasks(device)) == ["a", "b", "c"]


def test_full_disk_while_going_back_leaves_the_package_as_it_was_or_whole(device, newer, tmp_path):
    install_from(newer, device)
    original = tmp_path / "original"
    shutil.copytree(device, original)
    new = content(original)
    for _ in full_at_every_write(lambda: roll_back(device)):
        if list(_tasks(device)) == ["a", "b", "c"]:
            assert content(device) == new
        _restored(device, original)
    assert list(_tasks(device)) == ["a", "b"]


def test_full_disk_while_making_a_package_leaves_nothing_and_names_it(full, tmp_path):
    for _ in full_at_every_write(lambda: install_from(full, tmp_path / "device")):
        assert list(tmp_path.iterdir()) == []
    assert list(_tasks(tmp_path / "device")) == ["a", "b"]
    largest = max(path.stat().st_size for path in (tmp_path / "device").iterdir())
    shutil.rmtree(tmp_path / "device")
    for room in (10, largest - 1):
        with room_for(room), pytest.raises(OSError, match="device"):
            install_from(full, tmp_path / "device")
        assert list(tmp_path.iterdir()) == []
