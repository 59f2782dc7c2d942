"""The list of what the cache holds, and clearing it."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_world import here

from mimi_edge.caches import CACHE_VARIABLE


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    (tmp_path / "hashes").mkdir()
    (tmp_path / "hashes" / "key").write_bytes(bytes(2_000_000))
    return tmp_path


def test_the_cache_is_listed_and_stays(cache: Path) -> None:
    (kind,) = here("cache", "--json").ended(0).document["kinds"]
    assert (kind["kind"], kind["entries"], kind["size_bytes"]) == ("hashes", 1, 2_000_000)
    shown = here("cache").ended(0).out
    assert "hashes" in shown
    assert "2.0" in shown
    assert (cache / "hashes" / "key").exists()


def test_what_was_used_lately_stays(cache: Path) -> None:
    outcome = here("cache", "--clear", "--older-than", "1").ended(0)
    assert "Removed 0.0 MB, 0 of 0." in outcome.err
    assert (cache / "hashes" / "key").exists()


def test_clear_makes_room(cache: Path) -> None:
    outcome = here("cache", "--clear", "--json").ended(0)
    assert outcome.document["removed"] == {"entries": 1, "size_bytes": 2_000_000}
    assert outcome.document["kinds"] == []
    assert not (cache / "hashes" / "key").exists()
    assert f"nothing of this in {cache}" in here("cache").ended(0).err
