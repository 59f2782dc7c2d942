"""One package and its archives, once for all tests of this folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from archive_samples import sample_package

from mimi_edge.export.archives.pack import pack
from mimi_edge.export.open_packages import Package


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    """A package of the tasks a and b; not to be changed."""
    return sample_package(tmp_path_factory.mktemp("archives") / "source")


@pytest.fixture(scope="session")
def full(package: Package, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of it in an archive."""
    return pack(package.folder, tmp_path_factory.mktemp("full") / "full.tar").path


@pytest.fixture(scope="session")
def delta(package: Package, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its tasks in an archive."""
    return pack(package.folder, tmp_path_factory.mktemp("delta") / "delta.tar", with_backbone=False).path


@pytest.fixture
def place(package: Package, tmp_path: Path) -> Path:
    """A folder with a copy of the package, and nothing else."""
    folder = tmp_path / "place"
    folder.mkdir()
    shutil.copytree(package.folder, folder / "package")
    return folder
