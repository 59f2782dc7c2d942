"""Packages as their readers see them: one version, whole, from the first look to the last.

    with opened_package(folder, ["digits"]) as package:
        ...  # load what is needed; whoever wants to change the package waits meanwhile

What is looked at on opening is what was asked for: the manifest, the backbone and the named tasks, whatever else the
package holds. `mimi_edge.export.archives.verifying` looks at everything.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mimi_edge.errors import ArtifactError, ConfigError
from mimi_edge.export.committing import settled_manifest
from mimi_edge.export.external_data import external_tensors, link_fault, verify_graph
from mimi_edge.export.graphs import BACKBONE_GRAPH, BACKBONE_WEIGHTS, load_graph
from mimi_edge.export.locking import read_here, reading
from mimi_edge.export.manifest import MANIFEST, FileEntry, Manifest, read_manifest
from mimi_edge.export.remembering import remembered_sha256
from mimi_edge.files import sha256_of
from mimi_edge.tasks.task import BackboneIdentity

ENGINES = "engines"
"""The shelf's folder, which has a manifest of its own."""
BACKBONE_FILES = (BACKBONE_GRAPH, BACKBONE_WEIGHTS)


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
    """A package. Whoever opened it says which of its files were found to be what its manifest says.

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
            package = _checked(folder, manifest, tasks, graphs)
        except ArtifactError:
            # Where there are no locks, another process may have replaced a task between our two looks.
            later = read_manifest(folder)
            if later == manifest:
                raise
            package = _checked(folder, later, tasks, graphs)
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
        _raise_for(folder, file_faults(folder, _used(package, manifest, tasks), digest=None))
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
def undisturbed(paths: Iterable[Path]) -> Iterator[None]:
    """Keeps every package that these paths are, or lie in, as it is while the block lasts."""
    with ExitStack() as stack:
        for folder in dict.fromkeys(package.resolve() for path in paths if (package := _package_around(path))):
            stack.enter_context(settled(folder))
        yield


def _package_around(path: Path) -> Path | None:
    """The package that is at a path, or has it as one of its files or engines."""
    places = (path, path.parent, path.parent.parent) if path.parent.name == ENGINES else (path, path.parent)
    return next((place for place in places if place.name != ENGINES and (place / MANIFEST).is_file()), None)


def package_of(folder: Path, manifest: Manifest) -> Package:
    """What a manifest says about a package; no file is looked at."""
    tasks = {
        name: PackagedTask(name, folder / entry.graph, folder / entry.task, entry.check)
        for name, entry in sorted(manifest.tasks.items())
    }
    return Package(folder, manifest.backbone, manifest.input_size, tasks)


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


def unlisted(manifest: Manifest) -> list[str]:
    """The backbone's files, where a manifest does not list them."""
    return [f"{name} is not listed" for name in BACKBONE_FILES if name not in manifest.files]


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


def _checked(folder: Path, manifest: Manifest, tasks: Sequence[str] | None, graphs: bool) -> Package:
    package = package_of(folder, manifest)
    used = _used(package, manifest, tasks)
    _raise_for(folder, used_faults(folder, used))
    if graphs:
        for path in (folder / name for name in used if name.endswith(".onnx")):
            _check_belonging(path, package)
    return package


def _used(package: Package, manifest: Manifest, tasks: Sequence[str] | None) -> dict[str, FileEntry]:
    """The files of the backbone and of these tasks, in the manifest's words."""
    _raise_for(package.folder, unlisted(manifest))
    chosen = [package.task(name) for name in (package.tasks if tasks is None else tasks)]
    names = [*BACKBONE_FILES, *(path.name for task in chosen for path in (task.task_file, task.graph))]
    return {name: manifest.files[name] for name in names}


def _raise_for(folder: Path, faults: Sequence[str]) -> None:
    if faults:
        listed = "\n".join(f"  - {fault}" for fault in faults)
        raise ArtifactError(f"Package {folder} is damaged:\n{listed}\nExport it again, or get an unaltered copy.")


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


def _check_belonging(path: Path, package: Package) -> None:
    info = verify_graph(path).info
    if info.backbone.sha256 != package.backbone.sha256:
        raise ArtifactError(f"{path} is of {info.backbone.name}, the package of {package.backbone.name}.")
