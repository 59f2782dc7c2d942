"""Packages: one flat folder with a backbone, any number of tasks for it, and a manifest of what all that must hash to.

    manifest.json  backbone.onnx  backbone.weights  <task>.safetensors  <task>.onnx  ...

A package is valid at every moment. A new one is built beside and renamed. A task that joins an existing one is staged
under hidden names, announced in the manifest, and then renamed; whoever opens the package after an interruption there
finishes the renaming.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mimi_edge.errors import ArtifactError, ConfigError
from mimi_edge.events import Listener, Note, silent
from mimi_edge.export.external_data import verify_graph
from mimi_edge.export.graphs import BACKBONE_GRAPH, BACKBONE_WEIGHTS, read_backbone_graph
from mimi_edge.export.manifest import (
    MANIFEST,
    Manifest,
    TaskEntry,
    check_task_name,
    file_entry,
    read_manifest,
    staged_name,
    write_manifest,
)
from mimi_edge.export.merge import merge
from mimi_edge.export.staging import locked, settle, settle_file, staging_folder
from mimi_edge.files import sha256_of
from mimi_edge.tasks.files import SUFFIX, read_task
from mimi_edge.tasks.task import BackboneIdentity

GRAPH_SUFFIX = ".onnx"
LEFTOVER_SUFFIXES = frozenset({".new", ".part"})


@dataclass(frozen=True)
class PackagedTask:
    """One task of a package.

    Attributes:
        name: of the task.
        graph: path of the merged graph.
        task_file: path of the task file, whose weights the graph uses.
        check: what was checked when it was exported, in figures.
    """

    name: str
    graph: Path
    task_file: Path
    check: Mapping[str, Any]


@dataclass(frozen=True)
class Package:
    """A package whose files were found to be what its manifest says.

    Attributes:
        folder: of the package.
        backbone: the network all tasks share.
        input_size: S, side in pixels of the images it takes.
        tasks: by name, in the order of their names.
    """

    folder: Path
    backbone: BackboneIdentity
    input_size: int
    tasks: Mapping[str, PackagedTask]

    @property
    def backbone_graph(self) -> Path:
        """Path of the bare backbone's graph."""
        return self.folder / BACKBONE_GRAPH

    @property
    def backbone_weights(self) -> Path:
        """Path of the weights that all graphs share."""
        return self.folder / BACKBONE_WEIGHTS

    def task(self, name: str) -> PackagedTask:
        """One task by its name.

        Raises:
            ConfigError: there is none of that name.
        """
        if name not in self.tasks:
            raise ConfigError(f"{self.folder} has no task {name!r}; it has {', '.join(self.tasks) or 'none'}.")
        return self.tasks[name]


Check = Callable[[PackagedTask], Mapping[str, Any]]
"""Looks at a task before it is published and gives figures for the manifest; raising keeps it from being published."""


def unchecked(_task: PackagedTask) -> Mapping[str, Any]:
    """Checks nothing, and says so."""
    return {"outputs": "not run: nobody asked for it", "accuracy": "not run: nobody asked for it"}


def read_package(folder: Path, *, verify: bool = True) -> Package:
    """Opens a package.

    Args:
        folder: of the package.
        verify: hash every file, and check what the graphs refer to (0.2 s for Swin-T); sizes are always compared.

    Raises:
        ArtifactError: a file is missing, altered, truncated, of a newer schema, or refers to what it must not.
    """
    manifest = _settled_manifest(folder)
    try:
        return _checked(folder, manifest, verify)
    except ArtifactError:
        # Another process may have replaced a task between our two looks.
        later = _settled_manifest(folder)
        if later == manifest:
            raise
        return _checked(folder, later, verify)


def create_or_extend(
    package: Path,
    backbone_graph_dir: Path | None,
    task_files: Sequence[Path],
    *,
    check: Check = unchecked,
    listener: Listener = silent,
) -> Package:
    """Makes a package of a backbone and tasks, or adds tasks to one, replacing those of the same name.

    Args:
        package: folder of the package; its name appears only once everything in it is whole and checked.
        backbone_graph_dir: folder from `export_backbone`; None where the package exists, which then uses its own.
        task_files: tasks to put in.
        check: called for each task in a staging folder, before anything has its final name.
        listener: hears which task is being worked on.

    Raises:
        ArtifactError: a task or the package belongs to another backbone, or a file is damaged.
        ConfigError: a task's name cannot be a file's, two tasks have one name, or the folder holds something else.
        OSError: the disk is full; nothing of the new tasks is left.
    """
    names = _task_names(task_files)
    with staging_folder(package) as staging:
        while True:
            source = _source(package, backbone_graph_dir)
            entries = _stage(source, staging, dict(zip(names, task_files, strict=True)), check, listener)
            if _publish(staging, package, entries):
                return read_package(package, verify=False)


def _task_names(task_files: Sequence[Path]) -> list[str]:
    names = [check_task_name(read_task(path).header.name) for path in task_files]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ConfigError(f"Several task files are called {', '.join(repeated)}. Put each into a package of its own.")
    return names


def _source(package: Path, backbone_graph_dir: Path | None) -> Path:
    """The folder whose backbone is used: the package's own, where it exists.

    Raises:
        ArtifactError: the package is damaged or of another backbone.
        ConfigError: there is no backbone, or the folder is no package.
    """
    if not package.exists() or (package.is_dir() and not any(package.iterdir())):
        if backbone_graph_dir is None:
            raise ConfigError(f"{package} does not exist yet, so a backbone's graph is needed to make it.")
        return backbone_graph_dir
    if not (package / MANIFEST).is_file():
        raise ConfigError(f"{package} exists and is not a package (it has no {MANIFEST}). Choose another folder.")
    existing = read_package(package)
    if backbone_graph_dir is not None:
        _check_same_backbone(existing, backbone_graph_dir)
    return package


def _check_same_backbone(package: Package, backbone_graph_dir: Path) -> None:
    info = read_backbone_graph(backbone_graph_dir).info
    if (info.backbone.sha256, info.input_size) != (package.backbone.sha256, package.input_size):
        raise ArtifactError(
            f"{package.folder} is a package of {package.backbone.name} ({package.backbone.sha256[:12]}, "
            f"{package.input_size} px); the tasks are for {info.backbone.name} ({info.backbone.sha256[:12]}, "
            f"{info.input_size} px). A package has one backbone: choose another folder."
        )


def _stage(
    source: Path, staging: Path, task_files: Mapping[str, Path], check: Check, listener: Listener
) -> dict[str, TaskEntry]:
    """Puts the backbone and the tasks into the staging folder, and checks every task there."""
    for name in (BACKBONE_GRAPH, BACKBONE_WEIGHTS):
        # Copied, not linked: onnx refuses weights with several hard links, and a package must stand alone.
        shutil.copyfile(source / name, staging / name)
    entries = {}
    for name, task_file in task_files.items():
        listener(Note(f"Merging {name} into the backbone's graph."))
        staged = PackagedTask(name, staging / (name + GRAPH_SUFFIX), staging / (name + SUFFIX), {})
        shutil.copyfile(task_file, staged.task_file)
        merge(staging / BACKBONE_GRAPH, staged.task_file, staged.graph)
        entries[name] = TaskEntry(staged.task_file.name, staged.graph.name, dict(check(staged)))
    return entries


def _publish(staging: Path, package: Path, entries: Mapping[str, TaskEntry]) -> bool:
    """Gives staged files their final names; False if another process made the package meanwhile."""
    if (package / MANIFEST).exists():
        with locked(package):
            return _extend(staging, package, entries)
    info = read_backbone_graph(staging).info
    files = {path.name: file_entry(path) for path in sorted(staging.iterdir()) if path.name != MANIFEST}
    write_manifest(staging, Manifest(info.backbone, info.input_size, files, dict(entries)))
    settle(staging)
    try:
        staging.rename(package)
    except OSError:
        if (package / MANIFEST).exists():
            return False
        raise
    return True


def _extend(staging: Path, package: Path, entries: Mapping[str, TaskEntry]) -> bool:
    manifest = _finish(package, read_manifest(package))
    _sweep(package)
    shared = {name: file_entry(staging / name) for name in (BACKBONE_GRAPH, BACKBONE_WEIGHTS)}
    if any(manifest.files.get(name) != entry for name, entry in shared.items()):
        return False
    names = sorted(name for entry in entries.values() for name in (entry.task, entry.graph))
    files = {**manifest.files, **{name: file_entry(staging / name) for name in names}}
    tasks = {**manifest.tasks, **entries}
    try:
        for name in names:
            settle_file(staging / name)
            (staging / name).rename(package / staged_name(name))
        write_manifest(package, replace(manifest, files=files, tasks=tasks, pending=tuple(names)))
    except BaseException:
        if not read_manifest(package).pending:
            _sweep(package)
        raise
    _finish(package, read_manifest(package))
    return True


def _finish(folder: Path, manifest: Manifest) -> Manifest:
    """Renames what a manifest announces, and then writes that it is done; the caller holds the lock.

    Raises:
        ArtifactError: the folder cannot be written.
    """
    if not manifest.pending:
        return manifest
    try:
        for name in manifest.pending:
            staged = folder / staged_name(name)
            if staged.exists() and sha256_of(staged) == manifest.files[name].sha256:
                staged.replace(folder / name)
    except OSError as error:
        raise ArtifactError(
            f"{folder} was being added to when that was interrupted, and cannot be written now ({error.strerror}). "
            "Open it once where it can be, or export it again."
        ) from error
    done = replace(manifest, pending=())
    with suppress(OSError):
        # The files are in place; a manifest that still announces them does no harm.
        write_manifest(folder, done)
    return done


def _sweep(folder: Path) -> None:
    """Removes what interrupted processes left under hidden names; the caller holds the lock and nothing is pending."""
    for path in folder.iterdir():
        if path.name.startswith(".") and path.suffix in LEFTOVER_SUFFIXES:
            path.unlink(missing_ok=True)


def _settled_manifest(folder: Path) -> Manifest:
    """The manifest, after finishing what an interrupted process announced in it."""
    manifest = read_manifest(folder)
    if not manifest.pending:
        return manifest
    with locked(folder):
        return _finish(folder, read_manifest(folder))


def _checked(folder: Path, manifest: Manifest, verify: bool) -> Package:
    _check_files(folder, manifest, verify)
    package = _package(folder, manifest)
    if verify:
        _check_graphs(package)
    return package


def _check_files(folder: Path, manifest: Manifest, verify: bool) -> None:
    faults = []
    for name, expected in manifest.files.items():
        path = folder / name
        if path.is_symlink() or not path.is_file():
            faults.append(f"{name} is missing or no regular file")
        elif path.stat().st_size != expected.size_bytes:
            faults.append(f"{name}: expected {expected.size_bytes} bytes, got {path.stat().st_size}")
        elif verify and sha256_of(path) != expected.sha256:
            faults.append(f"{name} is not what was packaged: its sha256 differs")
    faults += [f"{name} is not listed" for name in (BACKBONE_GRAPH, BACKBONE_WEIGHTS) if name not in manifest.files]
    if faults:
        listed = "\n".join(f"  - {fault}" for fault in faults)
        raise ArtifactError(f"Package {folder} is damaged:\n{listed}\nExport it again, or get an unaltered copy.")


def _check_graphs(package: Package) -> None:
    for path in (package.backbone_graph, *(task.graph for task in package.tasks.values())):
        info = verify_graph(path).info
        if info.backbone.sha256 != package.backbone.sha256:
            raise ArtifactError(f"{path} is of {info.backbone.name}, the package of {package.backbone.name}.")


def _package(folder: Path, manifest: Manifest) -> Package:
    tasks = {
        name: PackagedTask(name, folder / entry.graph, folder / entry.task, entry.check)
        for name, entry in sorted(manifest.tasks.items())
    }
    return Package(folder, manifest.backbone, manifest.input_size, tasks)
