"""What lies in a folder, file by file, and what of a package it is: the sum is what `du` finds in it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mimi_edge.export.open_packages import Package
    from mimi_edge.export.ort_adapters import OrtAdapterSet

BACKBONE = "backbone graph and weights"
TASKS = "task files"
GRAPHS = "merged graphs"
MANIFEST = "manifest"
ENGINES = "engines"
EARLIER = "earlier version, to go back to"
OTHER = "other files"
ADAPTERS_SHARED = "ONNX Runtime adapters: graph and weights"
ADAPTERS = "ONNX Runtime adapters: tasks"


def folder_files(folder: Path) -> dict[str, int]:
    """Sizes of everything below a folder but folders, by path in it, hidden files too.

    A file with several names is counted once, and a link as itself, as `du` does. Folders have sizes of their own on
    some file systems, which say nothing about what is in them.
    """
    sizes, seen = {}, set()
    for place, _, names in sorted(os.walk(folder)):
        for name in sorted(names):
            path = Path(place, name)
            found = path.lstat()
            if (found.st_dev, found.st_ino) not in seen:
                seen.add((found.st_dev, found.st_ino))
                sizes[path.relative_to(folder).as_posix()] = found.st_size
    return sizes


def package_inventory(package: Package) -> dict[str, int]:
    """Bytes of a package's folder by what they are of.

    Raises:
        OSError: a folder cannot be read.
    """
    from mimi_edge.export.engines.shelf.shelf import FOLDER
    from mimi_edge.export.manifest import KEPT
    from mimi_edge.export.manifest import MANIFEST as MANIFEST_FILE

    kinds = {package.backbone_graph.name: BACKBONE, package.backbone_weights.name: BACKBONE, MANIFEST_FILE: MANIFEST}
    kinds |= {task.task_file.name: TASKS for task in package.tasks.values()}
    kinds |= {task.graph.name: GRAPHS for task in package.tasks.values()}
    folders = {FOLDER: ENGINES, KEPT: EARLIER}
    return _summed(
        {
            path: (kinds.get(path) or folders.get(path.partition("/")[0]) or OTHER, size)
            for path, size in folder_files(package.folder).items()
        }
    )


def adapters_inventory(adapters: OrtAdapterSet) -> dict[str, int]:
    """Bytes of a folder of ONNX Runtime adapters by what they are of; its manifest counts with the tasks it lists.

    Raises:
        OSError: the folder cannot be read.
    """
    shared = adapters.files.keys() - {task.file for task in adapters.tasks.values()}
    return _summed(
        {
            path: (ADAPTERS_SHARED if path in shared else ADAPTERS, size)
            for path, size in folder_files(adapters.folder).items()
        }
    )


def empty_manifest_bytes(package: Package) -> int:
    """What the package's manifest would take without any task."""
    from mimi_edge.export.manifest import document_bytes, manifest_document, read_manifest

    manifest = read_manifest(package.folder)
    shared = {package.backbone_graph.name, package.backbone_weights.name}
    files = {name: entry for name, entry in manifest.files.items() if name in shared}
    bare = replace(manifest, files=files, tasks={}, pending=(), leaving=(), previous={})
    return len(document_bytes(manifest_document(bare)))


def _summed(files: Mapping[str, tuple[str, int]]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for kind, size in files.values():
        sums[kind] = sums.get(kind, 0) + size
    return sums
