"""How a package changes on disk, so that it is valid at every moment.

New files are staged under hidden names, announced in the manifest, and then renamed. Whoever opens or changes the
package after an interruption there finishes the renaming.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from mimi_edge.errors import ArtifactError
from mimi_edge.export.archives.earlier_version import keep, kept_tasks, sweep_kept
from mimi_edge.export.graphs import BACKBONE_FILES, read_backbone_graph
from mimi_edge.export.locks import locked
from mimi_edge.export.manifest import (
    MANIFEST,
    FileEntry,
    Manifest,
    TaskEntry,
    file_entry,
    read_manifest,
    staged_name,
    write_manifest,
)
from mimi_edge.export.staging import settle, settle_file
from mimi_edge.files import sha256_of

LEFTOVER_SUFFIXES = frozenset({".new", ".part"})
NOTHING_KNOWN: Mapping[str, FileEntry] = {}


def create_from(
    staging: Path, package: Path, entries: Mapping[str, TaskEntry], known: Mapping[str, FileEntry] = NOTHING_KNOWN
) -> bool:
    """Makes a package of everything in a staging folder; False if another process made it meanwhile.

    Args:
        staging: folder with the files, on the package's file system.
        package: folder that they become.
        entries: the tasks.
        known: what those files are that were hashed when they were written; the others are read.

    Raises:
        OSError: the disk is full, or something else has that name.
    """
    info = read_backbone_graph(staging).info
    names = sorted(path.name for path in staging.iterdir() if path.name != MANIFEST)
    files = {name: known.get(name) or file_entry(staging / name) for name in names}
    write_manifest(staging, Manifest(info.backbone, info.input_size, files, dict(entries)))
    settle(staging)
    try:
        staging.rename(package)
    except OSError:
        if (package / MANIFEST).exists():
            return False
        raise
    return True


def extend(
    staging: Path,
    package: Path,
    shared: Mapping[str, FileEntry],
    entries: Mapping[str, TaskEntry],
    *,
    known: Mapping[str, FileEntry] = NOTHING_KNOWN,
    keeping: bool = False,
) -> bool:
    """Puts staged tasks into a package, whose lock the caller holds; False if it has another backbone by now.

    Args:
        staging: folder with the files, on the package's file system.
        package: folder of the package.
        shared: what the backbone's files are that the tasks were made for.
        entries: the tasks.
        known: what their files are, where they were hashed when they were written; the others are read.
        keeping: whether what is replaced is kept to go back to; else what was kept goes.

    Raises:
        OSError: the disk is full; the package is as it was.
    """
    manifest = finish(package, read_manifest(package))
    sweep(package, manifest)
    if shared != backbone_entries(manifest):
        return False
    names = sorted(name for entry in entries.values() for name in (entry.task, entry.graph))
    files = {**manifest.files, **{name: known.get(name) or file_entry(staging / name) for name in names}}
    tasks = {**manifest.tasks, **entries}
    previous = kept_tasks(manifest, entries) if keeping else {}
    changed = replace(manifest, files=files, tasks=tasks, pending=tuple(names), previous=previous)
    with committing(package, changed, hashed=True):
        keep(package, manifest, previous)
        for name in names:
            settle_file(staging / name)
            (staging / name).rename(package / staged_name(name))
    return True


def backbone_entries(manifest: Manifest) -> dict[str, FileEntry]:
    """What the two files that all tasks share must be."""
    return {name: manifest.files[name] for name in BACKBONE_FILES}


@contextmanager
def committing(package: Path, changed: Manifest, *, hashed: bool = False) -> Iterator[None]:
    """Once the block has staged what a manifest announces, writes the manifest and finishes; else all stays as it was.

    The caller holds the lock.

    Args:
        package: folder of the package.
        changed: what it announces.
        hashed: the manifest has the hashes of the very files that the block stages.
    """
    try:
        yield
        write_manifest(package, changed)
    except BaseException:
        current = read_manifest(package)
        if not current.unfinished:
            sweep(package, current)
        raise
    finish(package, changed, hashed=hashed)


def finish(folder: Path, manifest: Manifest, *, hashed: bool = False) -> Manifest:
    """Renames and removes what a manifest announces, and then writes that it is done; the caller holds the lock.

    Args:
        folder: of the package.
        manifest: that announces it.
        hashed: the staged files were hashed under this lock; what another process left is hashed before it is used.

    Raises:
        ArtifactError: the folder cannot be written.
    """
    if not manifest.unfinished:
        return manifest
    try:
        for name in manifest.pending:
            staged = folder / staged_name(name)
            if staged.exists() and (hashed or sha256_of(staged) == manifest.files[name].sha256):
                staged.replace(folder / name)
        for name in manifest.leaving:
            (folder / name).unlink(missing_ok=True)
        sweep_kept(folder, manifest)
    except OSError as error:
        raise ArtifactError(
            f"{folder} was being added to when that was interrupted, and cannot be written now ({error.strerror}). "
            "Open it once where it can be, or export it again."
        ) from error
    done = replace(manifest, pending=(), leaving=())
    with suppress(OSError):
        # The files are in place; a manifest that still announces them does no harm.
        write_manifest(folder, done)
    return done


def sweep(folder: Path, manifest: Manifest) -> None:
    """Removes what interrupted processes left under hidden names; the caller holds the lock and nothing is pending."""
    for path in folder.iterdir():
        if path.name.startswith(".") and path.suffix in LEFTOVER_SUFFIXES:
            path.unlink(missing_ok=True)
    sweep_kept(folder, manifest)


def settled_manifest(folder: Path) -> Manifest:
    """The manifest, after finishing what an interrupted process announced in it.

    Raises:
        ArtifactError: there is none, it is damaged or of a newer schema, or the folder cannot be written.
    """
    manifest = read_manifest(folder)
    if not manifest.unfinished:
        return manifest
    with locked(folder):
        return finish(folder, read_manifest(folder))
