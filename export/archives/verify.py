"""Says whether an archive or a package is whole: every hash, every reference of every graph, every task file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from mimi_edge.errors import ArtifactError, ConfigError
from mimi_edge.events import Listener, silent
from mimi_edge.export.archives.contents import FULL
from mimi_edge.export.archives.earlier_version import kept_faults
from mimi_edge.export.archives.progress import ByteProgress
from mimi_edge.export.archives.read import Archive, examine, unpack
from mimi_edge.export.engines.shelf.shelf import FOLDER, read_shelf
from mimi_edge.export.external_data import VerifiedGraph, link_fault, verify_graph
from mimi_edge.export.graphs import BACKBONE_FILES, BACKBONE_GRAPH, BACKBONE_WEIGHTS
from mimi_edge.export.manifest import DIGEST, MANIFEST, FileEntry, Manifest, TaskEntry
from mimi_edge.export.open_packages import file_faults, settled, unlisted
from mimi_edge.export.staging import temporary_folder
from mimi_edge.tasks.files import read_task
from mimi_edge.tasks.task import BackboneIdentity, Task
from mimi_edge.texts import fault_list

T = TypeVar("T")

ARCHIVE, PACKAGE = "archive", "package"


@dataclass(frozen=True)
class Verdict:
    """What was found.

    Attributes:
        path: of the archive or package.
        kind: `full archive`, `tasks archive`, `archive` where nobody can tell, or `package`.
        sha256: of the archive's file; None for a package.
        size_bytes: of the archive's file, or of the files that the package's manifest lists.
        backbone: which network it is for; None where nobody can tell.
        tasks: their names.
        kept_bytes: what a package keeps to go back to.
        faults: everything that is wrong; none if it is whole.
    """

    path: Path
    kind: str
    sha256: str | None
    size_bytes: int
    backbone: BackboneIdentity | None
    tasks: tuple[str, ...]
    kept_bytes: int
    faults: tuple[str, ...]


def verify(path: Path, *, sha256: str | None = None, listener: Listener = silent) -> Verdict:
    """Looks at everything in an archive or a package, and names everything that is wrong.

    Args:
        path: of the archive's file, or of the package's folder.
        sha256: that the archive's file must have, in hex; None if nobody said.
        listener: hears how far it is.

    Raises:
        ArtifactError: there is nothing of that name.
        ConfigError: the sha256 is none, or was given for a package.
        OSError: the temporary folder is full.
    """
    if not path.is_dir():
        return _verify_archive(path, sha256, listener)
    if sha256 is not None:
        raise ConfigError(f"{path} is a folder; a sha256 is of an archive's file. Leave it out.")
    return _verify_package(path, listener)


def checked_archive(path: Path, *, sha256: str | None = None, listener: Listener = silent) -> Archive:
    """Opens an archive in which nothing is wrong.

    Raises:
        ArtifactError: something is; all of it is named.
        ConfigError: the sha256 is none.
        OSError: the temporary folder is full.
    """
    archive, verdict = _examined(path, sha256, listener)
    if archive is None:
        raise ArtifactError(in_words(verdict))
    return archive


def in_words(verdict: Verdict) -> str:
    """Everything that is wrong, and what to do about it."""
    if verdict.kind == PACKAGE and not (verdict.path / MANIFEST).exists():
        return "\n".join(verdict.faults)  # it is none, and they say what to do
    next_step = "Install its tasks again, or get an unaltered copy." if verdict.kind == PACKAGE else "Copy it again."
    return f"{verdict.path} must not be used:\n{fault_list(verdict.faults, None, longest=None)}\n{next_step}"


def checked_sha256(value: str) -> str:
    """A sha256 in small letters.

    Raises:
        ConfigError: it is none.
    """
    digits = value.strip().lower()
    if not DIGEST.fullmatch(digits):
        raise ConfigError(f"A sha256 has 64 hexadecimal digits; got {value!r}.")
    return digits


def content_faults(folder: Path, manifest: Manifest, *, with_backbone: bool = True) -> list[str]:
    """Everything that is wrong inside task files and graphs; the backbone's weights are not read.

    Args:
        folder: with the files.
        manifest: of a package or an archive.
        with_backbone: whether the bare backbone's graph is there, too.
    """
    faults = [fault for name in sorted(manifest.tasks) for fault in _task_faults(folder, manifest, name)]
    if with_backbone:
        graph = _tried(verify_graph, folder / BACKBONE_GRAPH, faults)
        if graph is not None and graph.info.task is not None:
            faults.append(f"{BACKBONE_GRAPH} has task {graph.info.task.name!r} in it; expected the bare backbone")
        if graph is not None:
            faults += _belonging_faults(BACKBONE_GRAPH, graph, manifest, {BACKBONE_WEIGHTS})
    return faults


def _task_faults(folder: Path, manifest: Manifest, name: str) -> list[str]:
    entry = manifest.tasks[name]
    faults: list[str] = []
    task = _tried(read_task, folder / entry.task, faults)
    graph = _tried(verify_graph, folder / entry.graph, faults)
    if task is not None:
        if task.header.name != name:
            faults.append(f"{entry.task} is of task {task.header.name!r}, listed as {name!r}")
        if task.header.backbone.sha256 != manifest.backbone.sha256:
            faults.append(f"{entry.task} is for another backbone, {task.header.backbone.name}")
    if graph is not None:
        faults += _belonging_faults(entry.graph, graph, manifest, {BACKBONE_WEIGHTS, entry.task})
    if task is not None and graph is not None:
        faults += _merge_faults(entry, task, graph, manifest)
    return faults


def _merge_faults(entry: TaskEntry, task: Task, graph: VerifiedGraph, manifest: Manifest) -> Iterator[str]:
    merged = graph.info.task
    if merged is None or merged.sha256 != manifest.files[entry.task].sha256:
        yield f"{entry.graph} was not made from {entry.task}"
    elif (merged.name, merged.classes) != (task.header.name, task.header.classes):
        yield f"{entry.graph} has another name or other classes than {entry.task}"
    if graph.info.preprocessing != task.header.preprocessing:
        yield f"{entry.graph} says other things about preprocessing than {entry.task}"


def _belonging_faults(name: str, graph: VerifiedGraph, manifest: Manifest, files: set[str]) -> Iterator[str]:
    if graph.info.backbone.sha256 != manifest.backbone.sha256:
        yield f"{name} is for another backbone, {graph.info.backbone.name}"
    if graph.info.input_size != manifest.input_size:
        yield f"{name} takes images of {graph.info.input_size} px; expected {manifest.input_size}"
    if others := sorted(graph.files - files):
        yield f"{name} takes weights from {', '.join(map(repr, others))}; expected {', '.join(sorted(files))}"


def _verify_archive(path: Path, sha256: str | None, listener: Listener) -> Verdict:
    return _examined(path, sha256, listener)[1]


def _examined(path: Path, sha256: str | None, listener: Listener) -> tuple[Archive | None, Verdict]:
    wanted = None if sha256 is None else checked_sha256(sha256)
    found = examine(path, listener)
    faults = list(found.faults)
    if wanted not in {None, found.sha256}:
        faults.append(
            f"its sha256 is {found.sha256}; expected {wanted}: it is another file than the one you were told of"
        )
    archive = None if found.contents is None or faults else Archive(path, found.sha256, found.contents)
    if archive is not None:
        faults += _inner_faults(archive)
    contents = found.contents
    verdict = Verdict(
        path,
        ARCHIVE if contents is None else f"{contents.kind} {ARCHIVE}",
        found.sha256,
        found.size_bytes,
        None if contents is None else contents.manifest.backbone,
        () if contents is None else tuple(sorted(contents.manifest.tasks)),
        0,
        tuple(faults),
    )
    return (None if faults else archive), verdict


def _inner_faults(archive: Archive) -> list[str]:
    """What is wrong inside the files of an archive whose bytes are right.

    Graphs and task files are small and are looked at in a temporary folder; of the weights only the size matters.
    """
    contents = archive.contents
    with temporary_folder() as folder:
        bare = [BACKBONE_GRAPH] if contents.kind == FULL else []
        unpack(archive, [*bare, *files_of(contents.manifest.tasks)], folder)
        with (folder / BACKBONE_WEIGHTS).open("xb") as stand_in:
            stand_in.truncate(contents.backbone_files[BACKBONE_WEIGHTS].size_bytes)
        return content_faults(folder, contents.manifest, with_backbone=contents.kind == FULL)


def files_of(tasks: Mapping[str, TaskEntry]) -> list[str]:
    """Names of the task files and merged graphs."""
    return [name for entry in tasks.values() for name in (entry.task, entry.graph)]


def _verify_package(folder: Path, listener: Listener) -> Verdict:
    try:
        with settled(folder) as manifest:
            return _package_verdict(folder, manifest, listener)
    except ArtifactError as error:
        return Verdict(folder, PACKAGE, None, 0, None, (), 0, (str(error),))


def _package_verdict(folder: Path, manifest: Manifest, listener: Listener) -> Verdict:
    size_bytes = sum(entry.size_bytes for entry in manifest.files.values())
    progress = ByteProgress(listener, f"check {folder.name}", size_bytes)
    faults = file_faults(folder, manifest.files, heard=progress) + unlisted(manifest.files)
    faults += content_faults(folder, manifest, with_backbone=set(BACKBONE_FILES) <= manifest.files.keys())
    faults += kept_faults(folder, manifest)
    faults += _shelf_faults(folder)
    return Verdict(
        folder,
        PACKAGE,
        None,
        size_bytes,
        manifest.backbone,
        tuple(sorted(manifest.tasks)),
        manifest.kept_bytes,
        tuple(faults),
    )


def _shelf_faults(folder: Path) -> list[str]:
    """What is wrong with engines: they are on the package's shelf, and its own manifest says what they must be."""
    try:
        shelf = read_shelf(folder)
    except ArtifactError as error:
        return [str(error).replace(f"{folder}/", "")]
    engines = {
        f"{FOLDER}/{engine.path.name}": FileEntry(engine.sidecar.sha256, engine.sidecar.size_bytes)
        for engine in shelf.values()
    }
    return file_faults(folder, engines)


def _tried(read: Callable[[Path], T], path: Path, faults: list[str]) -> T | None:
    """What a reader makes of a file, or None and its complaint among the faults, without the folder's name.

    What is no file at all is not opened, and not complained of: whoever compared it with the manifest did.
    """
    if link_fault(path) or not path.is_file():
        return None
    try:
        return read(path)
    except ArtifactError as error:
        faults.append(str(error).replace(f"{path.parent}/", ""))
        return None
