"""Packages: one flat folder with a backbone, any number of tasks for it, and a manifest of what all that must hash to.

    manifest.json  backbone.onnx  backbone.weights  <task>.safetensors  <task>.onnx  ...

A package is valid at every moment. A new one is built beside and renamed. A task that joins an existing one is staged
under hidden names, announced in the manifest, and then renamed; whoever opens the package after an interruption there
finishes the renaming. A task that is installed leaves the version it replaced to go back to (`archives.keeping`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mimi_edge.errors import ArtifactError, ConfigError
from mimi_edge.events import Listener, Note, silent
from mimi_edge.export.archives.earlier_version import before, stage_kept
from mimi_edge.export.external_data import verified_graph
from mimi_edge.export.graphs import (
    BACKBONE_FILES,
    BACKBONE_GRAPH,
    BACKBONE_WEIGHTS,
    GRAPH_SUFFIX,
    GraphFile,
    open_graph_file,
    read_backbone_graph,
)
from mimi_edge.export.locks import locked
from mimi_edge.export.manifest import (
    MANIFEST,
    FileEntry,
    Manifest,
    TaskEntry,
    check_task_name,
    clashes,
    file_entry,
    is_begun,
    read_manifest,
)
from mimi_edge.export.merge import Merged, merge_opened
from mimi_edge.export.open_packages import Package, package_of, read_package, settled
from mimi_edge.export.staging import staging_folder
from mimi_edge.export.transactions import (
    backbone_entries,
    committing,
    create_from,
    extend,
    finish,
    sweep,
)
from mimi_edge.files import copy_hashed
from mimi_edge.images.image_size import ImageSize
from mimi_edge.tasks.files import SUFFIX, TaskFile, open_task
from mimi_edge.tasks.task import BackboneIdentity

TRIES = 3
"""How often a backbone is taken out of a cache that somebody removes meanwhile."""


@dataclass(frozen=True)
class Change:
    """What an installation, or going back, did to a package's tasks; all by name, in the order of their names.

    Attributes:
        added: tasks that were not there before.
        replaced: tasks that were there in another version.
        removed: tasks that are gone.
        unchanged: tasks that were there already as they were to be.
        kept_bytes: what the version before takes; 0 where there is none to go back to.
    """

    added: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    kept_bytes: int = 0


Fill = Callable[[Path], Mapping[str, TaskEntry]]
"""Puts task files and their merged graphs into a staging folder, and says what it put there."""

BackboneFolder = Path | Callable[[], Path] | None
"""Where an exported backbone is, or what gives that place."""


@dataclass(frozen=True, eq=False)
class StagedBackbone:
    """A backbone in a staging folder.

    Attributes:
        graph: bare, as it was read.
        files: what its two files are.
    """

    graph: GraphFile
    files: Mapping[str, FileEntry]


@dataclass(frozen=True, eq=False)
class StagedTask:
    """A task in a staging folder, merged, and not yet published.

    Attributes:
        file: as it was read; the same lies beside the graph.
        merged: its graph.
        check: what was found, in figures.
    """

    file: TaskFile
    merged: Merged
    check: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of the task."""
        return self.file.name

    @property
    def entry(self) -> TaskEntry:
        """As a manifest lists it."""
        return TaskEntry(self.name + SUFFIX, self.name + GRAPH_SUFFIX, self.check)

    @property
    def files(self) -> dict[str, FileEntry]:
        """What its two files are."""
        return {
            self.entry.task: FileEntry(self.file.sha256, len(self.file.content)),
            self.entry.graph: FileEntry(self.merged.sha256, self.merged.size_bytes),
        }


Check = Callable[[StagedTask], Mapping[str, Any]]
"""Looks at a task before it is published and gives figures for the manifest; raising keeps it from being published."""


def unchecked(_task: StagedTask) -> Mapping[str, Any]:
    """Checks nothing, and says so."""
    return {"outputs": "not run: nobody asked for it", "accuracy": "not run: nobody asked for it"}


def create_or_extend(
    package: Path,
    backbone_graph_dir: BackboneFolder,
    task_files: Sequence[Path | TaskFile],
    *,
    check: Check = unchecked,
    listener: Listener = silent,
) -> Package:
    """Makes a package of a backbone and tasks, or adds tasks to one, replacing those of the same name.

    Args:
        package: folder of the package; its name appears only once everything in it is whole and checked.
        backbone_graph_dir: folder from `export_backbone`, or what gives it and makes it again where somebody removed
            it meanwhile; None where the package exists, which then uses its own.
        task_files: tasks to put in, or where their files are.
        check: called for each task in a staging folder, before anything has its final name.
        listener: hears which task is being worked on, and when others that use the package are waited for.

    Raises:
        ArtifactError: a task or the package belongs to another backbone, or a file is damaged.
        ConfigError: a task's name cannot be a file's, two tasks have one name, or the folder holds something else.
        OSError: the disk is full; nothing of the new tasks is left.
    """
    files = [one if isinstance(one, TaskFile) else open_task(one) for one in task_files]
    names = _task_names(files)
    with staging_folder(package) as staging:
        while True:
            backbone = _take_backbone(package, backbone_graph_dir, files, staging)
            tasks = [_stage(staging, backbone, file, check, listener) for file in files]
            if _publish(staging, package, backbone, tasks, listener):
                return read_package(package, names, verify=False)


def create(package: Path, fill: Fill) -> Package:
    """Makes a package of a backbone and tasks that already are as they should be.

    Args:
        package: folder of the package, which must not exist or be empty.
        fill: puts the backbone into the staging folder, too.

    Raises:
        ConfigError: there is something of that name.
        OSError: the disk is full; nothing is left.
    """
    with staging_folder(package) as staging:
        entries = fill(staging)
        if (package / MANIFEST).exists() or not create_from(staging, package, entries):
            raise ConfigError(f"Another process made {package} meanwhile. Install again to add to it.")
    return read_package(package, (), verify=False)


def install(package: Path, fill: Fill, *, listener: Listener = silent) -> Change:
    """Adds tasks to a package, or replaces those of the same name, and keeps what was replaced to go back to.

    Tasks that the package has already, byte for byte, are left alone; if all are, the version before stays. Of the
    package itself only the backbone is looked at.

    Args:
        package: folder of the package.
        fill: puts the tasks into a staging folder.
        listener: hears when others that use the package are waited for.

    Raises:
        ArtifactError: the package is damaged, or its backbone was replaced meanwhile.
        ConfigError: a name differs from that of a task in the package only in case or spelling.
        OSError: the disk is full; the package is as it was.
    """
    read_package(package, ())
    shared = backbone_entries(read_manifest(package))
    with staging_folder(package) as staging:
        entries = fill(staging)
        with locked(package, listener=listener):
            return _install(staging, package, shared, entries)


def roll_back(package: Path, *, listener: Listener = silent) -> Change:
    """Takes the last installation back: what it replaced returns, what it added goes.

    Args:
        package: folder of the package.
        listener: hears when others that use the package are waited for.

    Raises:
        ArtifactError: there is no package, or what was kept is damaged; nothing was changed.
        ConfigError: there is nothing to go back to.
        OSError: the disk is full; the package is as it was.
    """
    read_manifest(package)
    with locked(package, listener=listener):
        manifest = finish(package, read_manifest(package))
        if not manifest.previous:
            raise ConfigError(
                f"{package} keeps no earlier version. One is kept when mimi-edge install-task adds or replaces tasks, "
                "until it is gone back to or tasks are exported into the package."
            )
        sweep(package, manifest)
        changed = before(manifest)
        with committing(package, changed):
            stage_kept(package, manifest, changed)
    names = sorted(manifest.previous)
    return Change(
        replaced=tuple(name for name in names if manifest.previous[name] is not None),
        removed=tuple(name for name in names if manifest.previous[name] is None),
    )


def _install(staging: Path, package: Path, shared: Mapping[str, FileEntry], entries: Mapping[str, TaskEntry]) -> Change:
    manifest = finish(package, read_manifest(package))
    if alike := clashes([*manifest.tasks, *entries]):
        listed = "; ".join(", ".join(map(repr, group)) for group in alike)
        raise ConfigError(
            f"Names that differ only in case or in their Unicode spelling cannot be in one package: {listed}. "
            "Train the task again under another --name."
        )
    known = {name: file_entry(staging / name) for entry in entries.values() for name in (entry.task, entry.graph)}
    fresh = {name: entry for name, entry in sorted(entries.items()) if _differs(known, manifest, entry)}
    if fresh and not extend(staging, package, shared, fresh, known=known, keeping=True):
        raise ArtifactError(f"The backbone of {package} was replaced meanwhile. Install again.")
    return Change(
        added=tuple(name for name in fresh if name not in manifest.tasks),
        replaced=tuple(name for name in fresh if name in manifest.tasks),
        unchanged=tuple(sorted(entries.keys() - fresh.keys())),
        kept_bytes=read_manifest(package).kept_bytes,
    )


def _differs(known: Mapping[str, FileEntry], manifest: Manifest, entry: TaskEntry) -> bool:
    return any(manifest.files.get(name) != known[name] for name in (entry.task, entry.graph))


def _task_names(files: Sequence[TaskFile]) -> list[str]:
    names = [check_task_name(file.name) for file in files]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ConfigError(f"Several task files are called {', '.join(repeated)}. Put each into a package of its own.")
    return names


def _take_backbone(package: Path, backbone: BackboneFolder, tasks: Sequence[TaskFile], staging: Path) -> StagedBackbone:
    """Copies the backbone's files into the staging folder: the package's own, where it exists.

    Raises:
        ArtifactError: the package is damaged or of another backbone.
        ConfigError: there is no backbone, or the folder is no package.
    """
    if not is_begun(package):
        if backbone is None:
            raise ConfigError(f"{package} does not exist yet, so a backbone's graph is needed to make it.")
        return _exported_backbone(backbone, staging)
    with settled(package) as manifest:
        existing = package_of(package, manifest)
        if callable(backbone):
            # What it would make is the backbone of these tasks, and is not needed.
            for task in (one.task.header for one in tasks):
                _check_same_backbone(existing, task.backbone, task.preprocessing.size)
        elif backbone is not None:
            info = read_backbone_graph(backbone).info
            _check_same_backbone(existing, info.backbone, info.input_size)
        files = existing.copy_backbone(staging)
    graph = verified_graph(open_graph_file(staging / BACKBONE_GRAPH))
    existing.require_its_own(graph)
    return StagedBackbone(graph.graph, files)


def _check_same_backbone(package: Package, backbone: BackboneIdentity, input_size: ImageSize) -> None:
    if (backbone.sha256, input_size) != (package.backbone.sha256, package.input_size):
        raise ArtifactError(
            f"{package.folder} is a package of {package.backbone} at {package.input_size} px; the tasks are for "
            f"{backbone} at {input_size} px. A package has one backbone: choose another folder."
        )


def _exported_backbone(backbone: Path | Callable[[], Path], staging: Path) -> StagedBackbone:
    """Copies an exported backbone into the staging folder."""
    for left in range(TRIES - 1, -1, -1):
        folder = backbone() if callable(backbone) else backbone
        try:
            # Copied, not linked: onnx refuses weights with several hard links, and a package must stand alone.
            hashes = {name: copy_hashed(folder / name, staging / name) for name in BACKBONE_FILES}
        except FileNotFoundError:
            # A cache may be removed at any time, and what made its entry can make it again.
            if not left or not callable(backbone) or (folder / BACKBONE_WEIGHTS).is_file():
                raise
        else:
            break
    files = {name: FileEntry(sha256, (staging / name).stat().st_size) for name, sha256 in hashes.items()}
    return StagedBackbone(open_graph_file(staging / BACKBONE_GRAPH), files)


def _stage(staging: Path, backbone: StagedBackbone, file: TaskFile, check: Check, listener: Listener) -> StagedTask:
    """Puts a task into the staging folder, beside the backbone, and checks it there."""
    listener(Note(f"Merging {file.name} into the backbone's graph."))
    beside = staging / (file.name + SUFFIX)
    beside.write_bytes(file.content)
    merged = merge_opened(backbone.graph, file, beside, staging / (file.name + GRAPH_SUFFIX))
    staged = StagedTask(file, merged)
    return replace(staged, check=dict(check(staged)))


def _publish(
    staging: Path, package: Path, backbone: StagedBackbone, tasks: Sequence[StagedTask], listener: Listener
) -> bool:
    """Gives staged files their final names; False if another process made the package meanwhile."""
    entries = {task.name: task.entry for task in tasks}
    known = {name: entry for task in tasks for name, entry in task.files.items()}
    if (package / MANIFEST).exists():
        with locked(package, listener=listener):
            return extend(staging, package, backbone.files, entries, known=known)
    return create_from(staging, package, entries, {**backbone.files, **known})
