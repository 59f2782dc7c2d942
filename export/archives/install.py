"""Brings an archive, or a bare task file, into a package on the device; needs neither torch nor a network."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mimi_edge.errors import ArtifactError, ConfigError
from mimi_edge.events import Listener, Note, silent
from mimi_edge.export.archives.contents import FULL, README, Contents
from mimi_edge.export.archives.read import Archive, unpack
from mimi_edge.export.archives.verify import checked_archive, checked_sha256, files_of
from mimi_edge.export.graphs import BACKBONE_FILES, BACKBONE_GRAPH, GRAPH_SUFFIX, open_graph_file
from mimi_edge.export.manifest import TaskEntry, check_task_name, is_begun
from mimi_edge.export.merge import merge_opened
from mimi_edge.export.packages import Change, create, install
from mimi_edge.export.transactions import settled_manifest
from mimi_edge.tasks.files import SUFFIX, TaskFile, open_task
from mimi_edge.tasks.task import BackboneIdentity

NOT_CHECKED = "not run: merged on the device"


@dataclass(frozen=True)
class Installed:
    """What an installation did.

    Attributes:
        package: folder of the package.
        created: whether the package is new.
        sha256: of the file that was installed.
        change: what became of the tasks.
    """

    package: Path
    created: bool
    sha256: str
    change: Change


def install_from(source: Path, package: Path, *, sha256: str | None = None, listener: Listener = silent) -> Installed:
    """Adds the tasks of an archive or a task file to a package, or replaces them; keeps one version to go back to.

    Everything is checked before anything is written. The tasks appear together or not at all. A full archive makes the
    package where there is none.

    Args:
        source: an archive from `pack`, or a task file.
        package: folder of the package.
        sha256: that the source's file must have, in hex; None if nobody said.
        listener: hears how far it is.

    Raises:
        ArtifactError: the source is damaged, is not the one expected, or is for another backbone; or the package is
            damaged.
        ConfigError: there is no package for these tasks, a name cannot be used, or the folder holds something else.
        OSError: the disk is full; the package is as it was.
    """
    if source.is_dir():
        raise ConfigError(f"{source} is a folder. Expected an archive from mimi-edge pack, or a task file ({SUFFIX}).")
    kind = _install_task_file if source.suffix == SUFFIX else _install_archive
    try:
        return kind(source, package, sha256, listener)
    except OSError as error:
        # A full disk names no file, or a hidden one that is gone by now.
        raise OSError(error.errno, error.strerror, str(package)) from error


def _install_archive(source: Path, package: Path, sha256: str | None, listener: Listener) -> Installed:
    archive = checked_archive(source, sha256=sha256, listener=listener)
    tasks = archive.contents.manifest.tasks
    if not is_begun(package):
        if archive.contents.kind != FULL:
            raise ConfigError(
                f"{source} holds tasks without their backbone, and there is no package {package} that has it. "
                "Install a full archive there first: mimi-edge pack without --delta"
            )
        names = archive.contents.manifest.files.keys() - {README}
        create(package, lambda staging: _unpacked(archive, names, staging, listener))
        return Installed(package, True, archive.sha256, Change(added=tuple(sorted(tasks))))
    _check_backbone(source, archive.contents.manifest.backbone, package)

    def fill(staging: Path) -> Mapping[str, TaskEntry]:
        if _same_files(archive.contents, package):
            return _unpacked(archive, files_of(tasks), staging, listener)
        listener(Note(f"{package} has the backbone in another file, so the tasks are merged into its graph here."))
        unpack(archive, [entry.task for entry in tasks.values()], staging, listener)
        return _merged(package, (open_task(staging / entry.task) for entry in tasks.values()), staging)

    return Installed(package, False, archive.sha256, install(package, fill, listener=listener))


def _install_task_file(source: Path, package: Path, sha256: str | None, listener: Listener) -> Installed:
    wanted = None if sha256 is None else checked_sha256(sha256)
    file = open_task(source)
    digest = file.sha256
    if wanted not in {None, digest}:
        raise ArtifactError(f"{source} has sha256 {digest}; expected {wanted}. It is not the file you were told of.")
    name = check_task_name(file.name)
    if not is_begun(package):
        raise ConfigError(
            f"There is no package {package} to put task {name!r} into. Install a full archive there first."
        )
    _check_backbone(source, file.task.header.backbone, package)

    def fill(staging: Path) -> Mapping[str, TaskEntry]:
        listener(Note(f"Merging {name} into the backbone's graph."))
        (staging / (name + SUFFIX)).write_bytes(file.content)
        return _merged(package, [file], staging)

    return Installed(package, False, digest, install(package, fill, listener=listener))


def _check_backbone(source: Path, backbone: BackboneIdentity, package: Path) -> None:
    existing = settled_manifest(package).backbone
    if backbone.sha256 != existing.sha256:
        raise ArtifactError(
            f"{source} is for the backbone {backbone}; {package} has {existing}. "
            "Install it into a package of its own backbone."
        )


def _same_files(contents: Contents, package: Path) -> bool:
    """Whether graphs made for the archive's backbone fit the package's, byte by byte."""
    files = settled_manifest(package).files
    return all(files.get(name) == contents.backbone_files[name] for name in BACKBONE_FILES)


def _unpacked(archive: Archive, names: Iterable[str], staging: Path, listener: Listener) -> Mapping[str, TaskEntry]:
    unpack(archive, names, staging, listener)
    return archive.contents.manifest.tasks


def _merged(package: Path, files: Iterable[TaskFile], staging: Path) -> dict[str, TaskEntry]:
    """Merges task files in the staging folder into the package's backbone graph, whose weights are not read."""
    shutil.copyfile(package / BACKBONE_GRAPH, staging / BACKBONE_GRAPH)
    backbone, check = open_graph_file(staging / BACKBONE_GRAPH), {"outputs": NOT_CHECKED, "accuracy": NOT_CHECKED}
    entries = {}
    for file in files:
        entries[file.name] = TaskEntry(file.name + SUFFIX, file.name + GRAPH_SUFFIX, check)
        merge_opened(backbone, file, staging / entries[file.name].task, staging / entries[file.name].graph)
    return entries
