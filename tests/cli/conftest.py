"""One small task, trained once, and one package of it, for all tests of this room."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from blank_pictures import draw_blank
from cli_world import SMALL, Packaged, Trained, here, write_pictures
from quick_exports import keep_operators


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    before = os.environ.get("MIMI_EDGE_CACHE")
    os.environ["MIMI_EDGE_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    del os.environ["MIMI_EDGE_CACHE"]
    if before is not None:
        os.environ["MIMI_EDGE_CACHE"] = before


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of eight images."""
    return write_pictures(tmp_path_factory.mktemp("data") / "pictures")


@pytest.fixture(scope="session")
def trained(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Trained with two prunings."""
    run = tmp_path_factory.mktemp("trained") / "run"
    options = ("--data", str(pictures), *SMALL, "--budget-mb", "0.08")
    return Trained(pictures, run, options, here("train", *options, "--run", run, "--json").ended(0))


@pytest.fixture(scope="session")
def packaged(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Packaged:
    """Exported from the run."""
    keep_operators()
    folder = tmp_path_factory.mktemp("packaged") / "package"
    return Packaged(folder, here("export", trained.run, "--output", folder, "--json").ended(0))


@pytest.fixture(autouse=True)
def _blank_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    draw_blank(monkeypatch)
