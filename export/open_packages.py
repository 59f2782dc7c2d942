"""Packages as their readers see them: one version, whole, from the first look to the last.

    with opened_package(folder, ["digits"]) as package:
        ...  # load what is needed; whoever wants to change the package waits meanwhile

What is looked at on opening is what was asked for: the manifest, the backbone and the named tasks, whatever else the
package holds. `mimi_edge.export.archives.verify` looks at everything.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mimi_edge.errors import ArtifactError, ConfigError
from mimi_edge.export.external_data import VerifiedGraph, external_tensors, link_fault, verified_graph
from mimi_edge.export.graphs import (
    BACKBONE_FILES,
    BACKBONE_GRAPH,
    BACKBONE_WEIGHTS,
    GRAPH_SUFFIX,
    load_graph,
    open_graph_file,
)
from mimi_edge.export.known_hashes import remembered_from, remembered_sha256
from mimi_edge.export.locks import read_here, reading
from mimi_edge.export.manifest import MANIFEST, FileEntry, Manifest, read_manifest
from mimi_edge.export.transactions import settled_manifest
from mimi_edge.files import copy_hashed, sha256_of
from mimi_edge.images.image_size import ImageSize
from mimi_edge.tasks.files import TaskFile, open_task
from mimi_edge.tasks.task import BackboneIdentity
from mimi_edge.texts import fault_list

ENGINES = "engines"
"""The shelf's folder, which has a manifest of its own."""


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
class _Seen:
    """What was found in a package's files: each is read at most once, however often it is asked for.

    Attributes:
        hashed: files that are what the manifest says, with their SHA-256.
        checked: names of graphs that refer only to what they may.
        graphs: by file name, those of them that somebody wanted to work with.
        tasks: by name.
    """

    hashed: dict[str, str] = field(default_factory=dict)
    checked: set[str] = field(default_factory=set)
    graphs: dict[str, VerifiedGraph] = field(default_factory=dict)
    tasks: dict[str, TaskFile] = field(default_factory=dict)


@dataclass(frozen=True)
class Package:
    """A package, as it was when it was opened; it remembers what it found in its files.

    Attributes:
        folder: of the package.
        backbone: the network all tasks share.
        input_size: H and W of the images it takes.
        tasks: by name, in the order of their names.
        files: what each file must be, by name.
    """

    folder: Path
    backbone: BackboneIdentity
    input_size: ImageSize
    tasks: Mapping[str, PackagedTask]
    files: Mapping[str, FileEntry] = field(default_factory=dict, repr=False, compare=False)
    _seen: _Seen = field(default_factory=_Seen, repr=False, compare=False)

    @property
    def backbone_graph(self) -> Path:
        """Path of the bare backbone's graph."""
        return self.folder / BACKBONE_GRAPH

    @property
    def backbone_weights(self) -> Path:
        """Path of the weights that all graphs share."""
        return self.folder / BACKBONE_WEIGHTS

    def called(self, folder: Path) -> Package:
        """The same package, whose folder has another name, too."""
        if folder == self.folder:
            return self
        tasks = {
            name: replace(task, graph=folder / task.graph.name, task_file=folder / task.task_file.name)
            for name, task in self.tasks.items()
        }
        return replace(self, folder=folder, tasks=tasks)

    def task(self, name: str) -> PackagedTask:
        """One task by its name.

        Raises:
            ConfigError: there is none of that name.
        """
        if name not in self.tasks:
            raise ConfigError(f"{self.folder} has no task {name!r}; it has {', '.join(self.tasks) or 'none'}.")
        return self.tasks[name]

    def require(self, tasks: Sequence[str] | None = None, *, graphs: bool = True) -> None:
        """Makes sure that the backbone's files and those of these tasks are what the manifest says.

        Args:
            tasks: names; None is all.
            graphs: also check what the graphs of these refer to.

        Raises:
            ArtifactError: a file is missing, altered, truncated, or refers to what it must not; every fault is named.
            ConfigError: there is no such task.
        """
        used = self._used(tasks)
        unseen = {name: entry for name, entry in used.items() if name not in self._seen.hashed}
        _raise_for(self.folder, used_faults(self.folder, unseen))
        self._seen.hashed.update({name: entry.sha256 for name, entry in unseen.items()})
        if graphs:
            for name in used:
                if name.endswith(GRAPH_SUFFIX) and name not in self._seen.checked:
                    # Not kept: the graphs of a thousand tasks, parsed, would fill the memory of a small device.
                    self._checked(self.folder / name)

    def graph(self, path: Path) -> VerifiedGraph:
        """A graph of the package, checked; it is kept for whoever asks again.

        Raises:
            ArtifactError: it is damaged, of another backbone, or refers to what it must not.
        """
        if path.name not in self._seen.graphs:
            self._seen.graphs[path.name] = self._checked(path)
        return self._seen.graphs[path.name]

    def _checked(self, path: Path) -> VerifiedGraph:
        verified = verified_graph(open_graph_file(path), self._seen.hashed)
        self.require_its_own(verified)
        self._seen.checked.add(path.name)
        return verified

    def require_its_own(self, graph: VerifiedGraph) -> None:
        """Makes sure that a graph is of this package's backbone.

        Raises:
            ArtifactError: it is of another.
        """
        if graph.info.backbone.sha256 != self.backbone.sha256:
            raise ArtifactError(f"{graph.path} is of {graph.info.backbone.name}, the package of {self.backbone.name}.")

    def task_file(self, name: str) -> TaskFile:
        """The file of one task, read once.

        Raises:
            ArtifactError: it is damaged.
            ConfigError: there is no task of that name.
        """
        if name not in self._seen.tasks:
            self._seen.tasks[name] = open_task(self.task(name).task_file)
        return self._seen.tasks[name]

    def compare_sizes(self, tasks: Sequence[str] | None = None) -> None:
        """Makes sure that these files are there and of the right sizes; nothing is read.

        Raises:
            ArtifactError: one is not; every fault is named.
            ConfigError: there is no such task.
        """
        _raise_for(self.folder, file_faults(self.folder, self._used(tasks), digest=None))

    def copy_backbone(self, target: Path) -> dict[str, FileEntry]:
        """Copies the backbone's files into a folder, and says what they are; what is copied is hashed on the way.

        Raises:
            ArtifactError: one is missing, altered or truncated.
            OSError: the disk is full.
        """
        files = self._used(())

        def copied(path: Path) -> str:
            return remembered_from(path, lambda read: copy_hashed(read, target / path.name))

        _raise_for(self.folder, file_faults(self.folder, files, digest=copied))
        return files

    def _used(self, tasks: Sequence[str] | None) -> dict[str, FileEntry]:
        """The files of the backbone and of these tasks, as the manifest has them."""
        _raise_for(self.folder, unlisted(self.files))
        chosen = [self.task(name) for name in (self.tasks if tasks is None else tasks)]
        names = [*BACKBONE_FILES, *(path.name for task in chosen for path in (task.task_file, task.graph))]
        return {name: self.files[name] for name in names}


@contextmanager
def opened_package(folder: Path, tasks: Sequence[str] | None = None, *, graphs: bool = True) -> Iterator[Package]:
    """Opens a package, which stays as it is while the block lasts.

    Args:
        folder: of the package.
        tasks: names of those that will be used, whose files are hashed with those of the backbone; None is all.
        graphs: also check what the graphs of these refer to, which `open_graph` does, too.

    Raises:
        ArtifactError: a file that is used is missing, altered, truncated, of a newer schema, or refers to what it must
            not.
        ConfigError: there is no such task.
    """
    with settled(folder) as manifest:
        try:
            package = package_of(folder, manifest)
            package.require(tasks, graphs=graphs)
        except ArtifactError:
            # Where there are no locks, another process may have replaced a task between our two looks.
            later = read_manifest(folder)
            if later == manifest:
                raise
            package = package_of(folder, later)
            package.require(tasks, graphs=graphs)
        yield package


def read_package(folder: Path, tasks: Sequence[str] | None = None, *, verify: bool = True) -> Package:
    """What a package was at one moment; `opened_package` keeps it so.

    Args:
        folder: of the package.
        tasks: names of those whose files are looked at, with those of the backbone; None is all.
        verify: hash these files, and check what the graphs refer to; sizes are always compared.

    Raises:
        ArtifactError: one of these files is missing, altered, truncated, of a newer schema, or refers to what it must
            not.
        ConfigError: there is no such task.
    """
    if verify:
        with opened_package(folder, tasks) as package:
            return package
    with settled(folder) as manifest:
        package = package_of(folder, manifest)
        package.compare_sizes(tasks)
        return package


@contextmanager
def settled(folder: Path) -> Iterator[Manifest]:
    """The manifest of a package that nobody changes while the block lasts; what was interrupted is finished first.

    Raises:
        ArtifactError: there is none, it is damaged or of a newer schema, or the folder cannot be written.
    """
    within = read_here(folder)
    with ExitStack() as stack:
        stack.enter_context(reading(folder))
        manifest = read_manifest(folder)
        if manifest.unfinished and not within:
            # Not while it is being read by us: finishing waits for all readers.
            stack.close()
            settled_manifest(folder)
            stack.enter_context(reading(folder))
            manifest = read_manifest(folder)
        # Where the manifest could not be written again, it still announces what is done.
        yield replace(manifest, pending=(), leaving=())


@contextmanager
def undisturbed(paths: Iterable[Path]) -> Iterator[Packages]:
    """Keeps every package that these paths are, or lie in, as it is while the block lasts, and gives all of them.

    None of their files is looked at before it is asked for.
    """
    found = Packages()
    with ExitStack() as stack:
        for folder in dict.fromkeys(around for path in paths if (around := package_around(path))):
            if folder.resolve() not in found.by_place:
                manifest = stack.enter_context(settled(folder))
                found.by_place[folder.resolve()] = package_of(folder, manifest)
        yield found


@dataclass(frozen=True)
class Packages:
    """Packages that are open, each once, under whatever name it is asked for.

    Attributes:
        by_place: by their resolved folder.
    """

    by_place: dict[Path, Package] = field(default_factory=dict)

    def at(self, folder: Path) -> Package | None:
        """The package in a folder, with paths that begin with it; None where none is open there."""
        package = self.by_place.get(folder.resolve())
        return None if package is None else package.called(folder)


def package_around(path: Path) -> Path | None:
    """The package that is at a path, or has it as one of its files or engines."""
    places = (path, path.parent, path.parent.parent) if path.parent.name == ENGINES else (path, path.parent)
    return next((place for place in places if place.name != ENGINES and (place / MANIFEST).is_file()), None)


def package_of(folder: Path, manifest: Manifest) -> Package:
    """What a manifest says about a package; no file is looked at."""
    tasks = {
        name: PackagedTask(name, folder / entry.graph, folder / entry.task, entry.check)
        for name, entry in sorted(manifest.tasks.items())
    }
    return Package(folder, manifest.backbone, manifest.input_size, tasks, manifest.files)


def file_faults(
    folder: Path,
    files: Mapping[str, FileEntry],
    *,
    digest: Callable[[Path], str] | None = sha256_of,
    heard: Callable[[int], None] | None = None,
) -> list[str]:
    """Everything in which files of a package are not what its manifest says.

    Args:
        folder: of the package.
        files: what they must be, by name.
        digest: gives a file's sha256; None compares sizes alone.
        heard: is told the size in bytes of each file, once it was looked at.
    """
    faults = []
    for name, expected in files.items():
        if fault := _file_fault(folder, name, expected, digest):
            faults.append(fault)
        if heard is not None:
            heard(expected.size_bytes)
    return faults


def unlisted(files: Mapping[str, FileEntry]) -> list[str]:
    """The backbone's files, where a manifest does not list them."""
    return [f"{name} is not listed" for name in BACKBONE_FILES if name not in files]


@contextmanager
def opened_graph(path: Path) -> Iterator[None]:
    """Keeps the package around a single graph as it is while the block lasts, where there is one.

    The graph, and the files that it takes weights from, are compared with the package's manifest.

    Args:
        path: of the graph; what the manifest does not list is not compared.

    Raises:
        ArtifactError: one of them is not what the manifest says, or the manifest is damaged.
    """
    folder = path.parent
    if not (folder / MANIFEST).is_file():
        yield
        return
    with settled(folder) as manifest:
        references = {str(tensor.location) for tensor in external_tensors(load_graph(path))}
        used = {path.name, *references} & manifest.files.keys()
        _raise_for(folder, used_faults(folder, {name: manifest.files[name] for name in sorted(used)}))
        yield


def used_faults(folder: Path, files: Mapping[str, FileEntry]) -> list[str]:
    """`file_faults` for files that are about to be used: of large ones the hash is remembered."""
    return file_faults(folder, files, digest=remembered_sha256)


def _raise_for(folder: Path, faults: Sequence[str]) -> None:
    if faults:
        raise ArtifactError(
            f"Package {folder} is damaged:\n{fault_list(faults, longest=None)}\n"
            "Export it again, or get an unaltered copy."
        )


def _file_fault(folder: Path, name: str, expected: FileEntry, digest: Callable[[Path], str] | None) -> str | None:
    path = folder / name
    if fault := link_fault(path):
        return fault
    if not path.is_file():
        return f"{name} is no regular file" if os.path.lexists(path) else f"{name} is missing"
    if path.stat().st_size != expected.size_bytes:
        return f"{name}: expected {expected.size_bytes} bytes, got {path.stat().st_size}"
    if digest is not None and digest(path) != expected.sha256:
        return f"{name} is not what was packaged: its sha256 differs"
    return None
