"""A wheel built once, and the two environments it is installed into: a training server's and a device's."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from installed_environments import Environment, link_distributions, run

ROOMS = ("mimi_edge", "cli", "export", "profiles")
BUILD_FILES = ("pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "constraints.txt")


@pytest.fixture(scope="session")
def source_tree(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a build reads, copied: a build leaves its traces there, and finds none of an earlier one."""
    tree = tmp_path_factory.mktemp("source")
    for name in BUILD_FILES:
        shutil.copy2(repository / name, tree / name)
    for room in ROOMS:
        shutil.copytree(repository / room, tree / room, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    return tree


def _built(kind: str, tree: Path, into: Path) -> Path:
    run([sys.executable, "-m", "build", f"--{kind}", "--no-isolation", "--outdir", into, tree], cwd=into)
    (artefact,) = into.iterdir()
    return artefact


@pytest.fixture(scope="session")
def wheel(source_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the checkout."""
    return _built("wheel", source_tree, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def sdist(source_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution of the checkout."""
    return _built("sdist", source_tree, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="session")
def wheel_of_sdist(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that the source distribution alone gives."""
    unpacked = tmp_path_factory.mktemp("unpacked")
    shutil.unpack_archive(sdist, unpacked, filter="data")
    (tree,) = unpacked.iterdir()
    return _built("wheel", tree, tmp_path_factory.mktemp("wheel-of-sdist"))


def _environment(python: str | Path, wheel: Path, parts: str, constraints: Path, folder: Path) -> Environment:
    """An empty environment and, in it, the wheel with some of its parts, as a user would install it."""
    run([python, "-m", "venv", folder], cwd=folder.parent)
    environment = Environment(folder)
    quietly = ["--quiet", "--no-input", "--disable-pip-version-check", "--no-compile"]
    wanted = f"mimi-edge[{parts}] @ {wheel.as_uri()}"
    run([environment.python, "-m", "pip", "install", *quietly, "--constraint", constraints, wanted], cwd=folder)
    return environment


@pytest.fixture(scope="session")
def training_environment(
    wheel: Path, repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Environment]:
    """What a training server has: the wheel with `train` and `cpu`, and nothing else.

    These are six gigabytes that the environment of this test run has already, of the same versions, so their files are
    linked instead of fetched again; pip itself then says whether all that the wheel asks for is there.
    """
    folder = tmp_path_factory.mktemp("training") / "venv"
    run([sys.executable, "-m", "venv", folder], cwd=folder.parent)
    environment = Environment(folder)
    link_distributions(wheel, ("train", "cpu"), environment.site_packages)
    pip = [environment.python, "-m", "pip", "--disable-pip-version-check"]
    run([*pip, "install", "--quiet", "--no-deps", "--no-index", wheel], cwd=folder)
    wanted = f"mimi-edge[train,cpu] @ {wheel.as_uri()}"
    run([*pip, "install", "--quiet", "--no-index", "--constraint", repository / "constraints.txt", wanted], cwd=folder)
    run([*pip, "check"], cwd=folder)
    yield environment
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def device_environment(
    wheel: Path, repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Environment]:
    """What a device has: the wheel with `cpu`, no torch, and Python 3.10 where this machine has one."""
    folder = tmp_path_factory.mktemp("device") / "venv"
    yield _environment(_device_python(), wheel, "cpu", repository / "constraints.txt", folder)
    shutil.rmtree(folder)


def _device_python() -> str | Path:
    """Python 3.10, which is JetPack 6.2's, if one is here that can make environments; else the one of this run."""
    on_path = [shutil.which("python3.10")]
    candidates = [*filter(None, on_path), *sorted(Path.home().glob(".pyenv/versions/3.10.*/bin/python"))]
    for candidate in candidates:
        probe = [candidate, "-c", "import ensurepip, venv"]
        if subprocess.run(probe, capture_output=True, check=False).returncode == 0:
            return candidate
    return sys.executable
