"""How often a command opens a file: a task file and a graph are values that are handed on, not read again."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tiny_package import make_backbone, make_task

from mimi_edge.export.graphs import BACKBONE_GRAPH
from mimi_edge.export.make_package import Reference, export_onnx
from mimi_edge.tasks.files import write_task

_heard: list[list[str]] = []


def _hear(event: str, args: tuple[object, ...]) -> None:
    if event == "open" and _heard and isinstance(args[0], str | bytes | os.PathLike):
        flags = args[2] if isinstance(args[2], int) else 0
        if not flags & (os.O_WRONLY | os.O_RDWR):
            _heard[-1].append(os.fsdecode(args[0]))


sys.addaudithook(_hear)


@contextmanager
def reads() -> Iterator[Counter[str]]:
    """Counts, by name, how often files are opened to be read by Python meanwhile."""
    counted: Counter[str] = Counter()
    _heard.append([])
    try:
        yield counted
    finally:
        counted.update(Path(path).name for path in _heard.pop())


@pytest.fixture
def sources(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Folder of a backbone, and two task files."""
    backbone = make_backbone(tmp_path / "backbone")
    paths = []
    for name in ("first", "second"):
        paths.append(tmp_path / f"{name}.safetensors")
        write_task(make_task(name, (2, 0, 3)), paths[-1])
    return backbone, paths[0], paths[1]


def test_a_second_task_is_exported_with_few_looks_at_each_file(
    sources: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    backbone, first, second = sources
    package = tmp_path / "package"
    export_onnx([first], package, backbone_graph_dir=backbone, references=lambda _: Reference())
    with reads() as counted:
        export_onnx([second], package, backbone_graph_dir=None, references=lambda _: Reference())
    assert counted["second.safetensors"] <= 2  # the file that was given, and its copy in the package
    assert counted["first.safetensors"] <= 1
    assert counted[BACKBONE_GRAPH] <= 3
    assert counted["second.onnx"] <= 1
