"""What is in the wheel and in the source distribution, and what is not."""

from __future__ import annotations

import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

SIZE_LIMIT_BYTES = 15 * 1000**2
FOLDERS = {
    "mimi_edge": "mimi_edge",
    "cli": "mimi_edge/cli",
    "export": "mimi_edge/export",
    "profiles": "mimi_edge/profiles",
}


def _names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if not name.endswith("/")}


def _metadata(wheel: Path) -> dict[str, list[str]]:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        parsed = Parser().parsestr(archive.read(name).decode())
    return {key: parsed.get_all(key, []) for key in parsed}


def test_one_package_is_at_the_top_and_nothing_else(wheel: Path) -> None:
    top = {name.split("/")[0] for name in _names(wheel)}
    assert {name for name in top if not name.endswith(".dist-info")} == {"mimi_edge"}
    assert len(top) == 2


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_module_of_every_room_is_in_it(folder: str, wheel: Path, source_tree: Path) -> None:
    room = source_tree / folder
    wanted = {f"{FOLDERS[folder]}/{file.relative_to(room).as_posix()}" for file in room.rglob("*.py")}
    assert wanted
    assert wanted - _names(wheel) == set()


def test_the_types_and_the_demonstration_are_in_it(wheel: Path, source_tree: Path) -> None:
    demonstration = source_tree / "mimi_edge" / "builtin"
    shipped = {
        f"mimi_edge/builtin/{file.relative_to(demonstration).as_posix()}"
        for file in demonstration.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert "mimi_edge/builtin/backbone.safetensors" in shipped
    assert (shipped | {"mimi_edge/py.typed"}) - _names(wheel) == set()


def test_tests_benchmarks_and_compiled_files_are_not(wheel: Path) -> None:
    strange = [
        name
        for name in _names(wheel)
        if name.endswith((".pyc", ".pyo")) or {"tests", "benchmarks", "docs"} & set(Path(name).parts)
    ]
    assert strange == []


def test_it_is_small(wheel: Path) -> None:
    assert wheel.stat().st_size <= SIZE_LIMIT_BYTES


def test_it_says_what_it_is(wheel: Path) -> None:
    metadata = _metadata(wheel)
    assert metadata["Name"] == ["mimi-edge"]
    assert metadata["License-Expression"] == ["Apache-2.0"]
    assert metadata["Requires-Python"] == [">=3.10"]
    assert {"train", "cpu", "gpu", "trt", "rtx", "jetson", "report"} <= set(metadata["Provides-Extra"])
    with zipfile.ZipFile(wheel) as archive:
        (entry,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
        assert "mimi-edge = mimi_edge.cli.main:main" in archive.read(entry).decode()
        assert any(name.endswith(".dist-info/licenses/LICENSE") for name in archive.namelist())


def test_a_device_need_not_install_torch(wheel: Path) -> None:
    core = [line for line in _metadata(wheel)["Requires-Dist"] if "extra ==" not in line]
    assert core
    assert [line for line in core if line.startswith(("torch", "timm", "onnxruntime", "matplotlib"))] == []


def test_the_source_distribution_gives_the_same_wheel(wheel: Path, wheel_of_sdist: Path) -> None:
    assert wheel_of_sdist.name == wheel.name
    with zipfile.ZipFile(wheel) as direct, zipfile.ZipFile(wheel_of_sdist) as by_way:
        contents = [
            {name: archive.read(name) for name in archive.namelist() if not name.endswith("RECORD")}
            for archive in (direct, by_way)
        ]
    assert contents[0].keys() == contents[1].keys()
    assert [name for name in contents[0] if contents[0][name] != contents[1][name]] == []


def test_the_source_distribution_has_what_an_install_needs(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {"/".join(name.split("/")[1:]) for name in archive.getnames()}
    assert {"pyproject.toml", "constraints.txt", "LICENSE", "README.md", "mimi_edge/cli/__init__.py"} <= names
