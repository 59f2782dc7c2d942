"""Timing caches on disk: merged, whole, and dropped when damaged."""

from __future__ import annotations

import json

import pytest
from engine_samples import fake_bindings
from fake_tensorrt import VERSIONS, World

from mimi_edge.events import Note
from mimi_edge.export.engines.building import timing_caches
from mimi_edge.export.engines.building.timing_caches import CacheUse, attach, keep, timing_cache_file


@pytest.fixture
def path(tmp_path):
    return tmp_path / "timing" / "t.timing"


def config_of(loaded):
    return loaded.builder().create_builder_config()


def used_for(loaded, path, heard, *entries):
    """Attaches a cache and does as a build does that measures these."""
    config = config_of(loaded)
    used = attach(loaded, config, path, heard.append)
    used.cache._entries.update(entries)
    return config, used


def entries_in(path):
    return set(json.loads(path.read_bytes()[timing_caches.HEADER_BYTES :]))


def texts(heard):
    assert all(isinstance(event, Note) for event in heard)
    return " ".join(event.text for event in heard)


@pytest.mark.parametrize("version", VERSIONS)
def test_two_builds_at_once_lose_nothing(version, path):
    loaded, heard = fake_bindings(version), []
    first = used_for(loaded, path, heard, "gemm")
    second = used_for(loaded, path, heard, "softmax")
    assert keep(loaded, *first, heard.append) is CacheUse.NEW
    assert keep(loaded, *second, heard.append) is CacheUse.NEW
    assert entries_in(path) == {"gemm", "softmax"}
    assert not heard


def test_a_reused_cache_is_not_written_again(path):
    loaded, heard = fake_bindings("10.3"), []
    keep(loaded, *used_for(loaded, path, heard, "gemm"), heard.append)
    before = path.stat().st_mtime_ns, path.stat().st_ino
    assert keep(loaded, *used_for(loaded, path, heard, "gemm"), heard.append) is CacheUse.REUSED
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == before


@pytest.mark.parametrize(
    "damage", [lambda old: old[:-1], lambda old: b"", lambda old: old[:-1] + b"!", lambda old: b"x" * 500]
)
def test_a_damaged_cache_is_replaced_and_that_is_said(path, damage):
    loaded, heard = fake_bindings("10.3"), []
    keep(loaded, *used_for(loaded, path, heard, "gemm"), heard.append)
    path.write_bytes(damage(path.read_bytes()))
    config, used = used_for(loaded, path, heard, "softmax")
    assert "is damaged" in texts(heard)
    assert used.content == b""
    keep(loaded, config, used, heard.append)
    assert entries_in(path) == {"softmax"}


def test_a_cache_that_tensorrt_does_not_take_is_replaced_and_that_is_said(path):
    world, heard = World(), []
    loaded = fake_bindings("10.3", world)
    keep(loaded, *used_for(loaded, path, heard, "gemm"), heard.append)
    world.bad_caches = {b'["gemm"]'}
    config, used = used_for(loaded, path, heard, "softmax")
    assert "does not take the timing cache" in texts(heard)
    assert keep(loaded, config, used, heard.append) is CacheUse.NEW
    assert entries_in(path) == {"softmax"}


def test_a_cache_that_cannot_be_written_costs_time_and_no_engine(path, monkeypatch):
    loaded, heard = fake_bindings("10.3"), []

    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(timing_caches, "write_whole", full)
    assert keep(loaded, *used_for(loaded, path, heard, "gemm"), heard.append) is CacheUse.NEW
    assert "No space left on device" in texts(heard)


def test_rtx_has_no_use_for_one(path):
    loaded = fake_bindings("rtx-1.7")
    assert attach(loaded, config_of(loaded), path, print) is None


def test_each_backend_version_and_gpu_has_its_own_file(tmp_path):
    files = {
        timing_cache_file(fake_bindings(version), gpu, tmp_path).name
        for version in ("10.3", "10.15", "rtx-1.7")
        for gpu in ("NVIDIA Orin Nano (8.7)", "Orin", "../../x")
    }
    assert len(files) == 9
    assert "trt-10.3.0-NVIDIA-Orin-Nano-8.7.timing" in files
    assert not [name for name in files if "/" in name]


def test_it_lies_in_the_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("MIMI_EDGE_CACHE", str(tmp_path))
    assert timing_cache_file(fake_bindings("10.3"), "Orin") == tmp_path / "timing" / "trt-10.3.0-Orin.timing"
