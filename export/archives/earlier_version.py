"""The version of a package's tasks before the last installation: exactly one, in a hidden folder of the package.

    .previous/<sha256>  ...

The manifest says which file of which task each was. A file there is never opened as it lies: going back copies it to
its old name first.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from mimi_edge.errors import ArtifactError
from mimi_edge.export.manifest import KEPT, KeptTask, Manifest, TaskEntry, staged_name
from mimi_edge.export.staging import settle_file
from mimi_edge.files import sha256_of, sync
from mimi_edge.texts import fault_list


def kept_tasks(manifest: Manifest, names: Iterable[str]) -> dict[str, KeptTask | None]:
    """What is to be kept of tasks that are about to be added or replaced, by name."""
    return {name: _kept(manifest, manifest.tasks[name]) if name in manifest.tasks else None for name in names}


def _kept(manifest: Manifest, entry: TaskEntry) -> KeptTask:
    return KeptTask(manifest.files[entry.task], manifest.files[entry.graph], entry.check)


def keep(folder: Path, manifest: Manifest, previous: Mapping[str, KeptTask | None]) -> None:
    """Copies the files of tasks that are about to be replaced; the caller holds the package's lock.

    Args:
        folder: of the package.
        manifest: as it is before they are replaced.
        previous: from `kept_tasks`.

    Raises:
        OSError: the disk is full.
    """
    # Copied, not linked: a task file with several hard links would not be loaded, and not every disk has links.
    for name, kept in previous.items():
        if kept is not None:
            (folder / KEPT).mkdir(exist_ok=True)
            for file in _files(manifest.tasks[name]):
                _keep_file(folder / file, folder / KEPT / manifest.files[file].sha256)
            sync(folder / KEPT)


def _keep_file(source: Path, target: Path) -> None:
    # What the manifest still asks for is not written over: the process may be killed in the middle of it.
    if not target.is_file() or sha256_of(target) != target.name:
        _copy(source, target)


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
    settle_file(target)


def kept_faults(folder: Path, manifest: Manifest) -> list[str]:
    """What keeps a package from going back."""
    return [
        f"{KEPT}/{name} is missing or altered"
        for name, entry in manifest.kept_files.items()
        if (path := folder / KEPT / name).is_symlink() or not path.is_file() or sha256_of(path) != entry.sha256
    ]


def before(manifest: Manifest) -> Manifest:
    """The manifest of a package that goes back to the version before; there is none to go back to after that."""
    gone = {name for name, kept in manifest.previous.items() if kept is None}
    leaving = [file for name in gone for file in _files(manifest.tasks[name])]
    files = {name: entry for name, entry in manifest.files.items() if name not in leaving}
    tasks = {name: entry for name, entry in manifest.tasks.items() if name not in gone}
    pending: list[str] = []
    for name, kept in manifest.previous.items():
        if kept is not None:
            entry = manifest.tasks[name]
            files |= {entry.task: kept.task, entry.graph: kept.graph}
            tasks[name] = TaskEntry(entry.task, entry.graph, kept.check)
            pending += _files(entry)
    return replace(
        manifest, files=files, tasks=tasks, pending=tuple(pending), leaving=tuple(sorted(leaving)), previous={}
    )


def _files(entry: TaskEntry) -> tuple[str, str]:
    return entry.task, entry.graph


def stage_kept(folder: Path, manifest: Manifest, changed: Manifest) -> None:
    """Copies kept files to where a manifest that goes back announces them; the caller holds the package's lock.

    Raises:
        ArtifactError: a kept file is missing or altered; nothing was changed.
        OSError: the disk is full.
    """
    if faults := kept_faults(folder, manifest):
        raise ArtifactError(
            f"The version before, in {folder}, is damaged:\n{fault_list(faults)}\nInstall the task again instead."
        )
    for name in changed.pending:
        _copy(folder / KEPT / changed.files[name].sha256, folder / staged_name(name))


def sweep_kept(folder: Path, manifest: Manifest) -> None:
    """Removes kept files that no manifest asks for any more; the caller holds the package's lock."""
    place = folder / KEPT
    if place.is_symlink() or not place.is_dir():
        return
    if not manifest.previous:
        shutil.rmtree(place, ignore_errors=True)
        return
    for path in place.iterdir():
        if path.name not in manifest.kept_files and not path.is_dir():
            path.unlink(missing_ok=True)
