"""Packs a package, or tasks of one, into one file for a device without a network."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mimi_edge.errors import ArtifactError, ConfigError
from mimi_edge.events import Listener, silent
from mimi_edge.export.archives.contents import README, Contents, Member, contents_faults
from mimi_edge.export.archives.progress import ByteProgress
from mimi_edge.export.archives.read import chunks
from mimi_edge.export.archives.readme import readme
from mimi_edge.export.archives.tar import END, padding
from mimi_edge.export.archives.verify import content_faults, files_of
from mimi_edge.export.graphs import BACKBONE_FILES
from mimi_edge.export.manifest import FileEntry, Manifest
from mimi_edge.export.open_packages import file_faults, package_of, settled, unlisted
from mimi_edge.export.transactions import backbone_entries
from mimi_edge.files import whole_file
from mimi_edge.tasks.files import read_task
from mimi_edge.texts import fault_list

STAGE = "pack"


@dataclass(frozen=True)
class Packed:
    """An archive that was written.

    Attributes:
        path: of its file.
        sha256: of its file.
        size_bytes: of its file.
        contents: what it holds.
    """

    path: Path
    sha256: str
    size_bytes: int
    contents: Contents


def pack(
    package: Path,
    out: Path,
    *,
    tasks: Sequence[str] | None = None,
    with_backbone: bool = True,
    listener: Listener = silent,
) -> Packed:
    """Writes an archive; the same package gives the same bytes. Engines and kept versions stay behind.

    Args:
        package: folder of the package.
        out: file to write; an older one is replaced once the new one is whole.
        tasks: names of those to put in; None is all.
        with_backbone: False for an archive of tasks alone, for a device that has the backbone.
        listener: hears how far it is.

    Raises:
        ArtifactError: the package is damaged.
        ConfigError: there is no such task, nothing to pack, a name that an archive cannot have, or no place for `out`.
        OSError: the disk is full; nothing is left of the archive.
    """
    _check_place(package, out)
    with settled(package) as whole:
        manifest = _chosen(package, whole, tasks, with_backbone)
        if faults := _faults(package, manifest, with_backbone):
            raise ArtifactError(
                f"Package {package} is damaged:\n{fault_list(faults, longest=None)}\n"
                "Export it again, or get an unaltered copy."
            )
        contents, text = _contents(package, manifest, {} if with_backbone else backbone_entries(whole))
        with whole_file(out) as beside, beside.open("wb") as opened:
            digest = _write(contents, text, package, opened.write, listener)
    return Packed(out, digest, contents.size_bytes, contents)


def _faults(package: Path, manifest: Manifest, with_backbone: bool) -> list[str]:
    """What is wrong with the files that are packed; their bytes are hashed while they are written."""
    if faults := file_faults(package, manifest.files, digest=None):
        return faults
    return content_faults(package, manifest, with_backbone=with_backbone)


def _check_place(package: Path, out: Path) -> None:
    if out.is_dir():
        raise ConfigError(f"{out} is a folder; expected the name of a file to write, such as {out / 'package.tar'}.")
    if package.resolve() in out.resolve().parents:
        raise ConfigError(f"{out} lies in the package itself. Write the archive somewhere else.")


def _chosen(package: Path, manifest: Manifest, names: Sequence[str] | None, with_backbone: bool) -> Manifest:
    """The part of a package's manifest that an archive of these tasks has."""
    opened = package_of(package, manifest)
    chosen = opened.tasks if names is None else [opened.task(name).name for name in names]
    tasks = {name: manifest.tasks[name] for name in chosen}
    if not tasks and not with_backbone:
        raise ConfigError(f"{package} has no tasks, so there is nothing to pack without its backbone.")
    if faults := unlisted(manifest.files):
        raise ArtifactError(f"Package {package} is damaged: {'; '.join(faults)}. Export it again.")
    listed = {name: manifest.files[name] for name in (*files_of(tasks), *(BACKBONE_FILES if with_backbone else ()))}
    return Manifest(manifest.backbone, manifest.input_size, listed, tasks)


def _contents(package: Path, manifest: Manifest, needs: Mapping[str, FileEntry]) -> tuple[Contents, bytes]:
    """What the archive will hold, and the text for people in it; `needs` is what the device must have."""
    tasks = [read_task(package / entry.task) for _, entry in sorted(manifest.tasks.items())]
    text = readme(manifest.backbone, tasks, full=not needs)
    entry = FileEntry(hashlib.sha256(text).hexdigest(), len(text))
    contents = Contents(replace(manifest, files={**manifest.files, README: entry}), needs)
    if faults := contents_faults(contents):
        raise ConfigError(f"{package} cannot be packed:\n{fault_list(faults)}\nChoose other tasks with --task.")
    return contents, text


def _write(contents: Contents, text: bytes, package: Path, write: Callable[[bytes], object], listener: Listener) -> str:
    """Writes all members; returns the sha256 of everything written."""
    digest = hashlib.sha256()
    progress = ByteProgress(listener, STAGE, contents.size_bytes)

    def out(content: bytes) -> None:
        digest.update(content)
        write(content)
        progress(len(content))

    for member in contents.members:
        out(member.header)
        content = text if member.name == README else member.content
        if content is None:
            _write_file(member, package / member.name, out)
        else:
            out(content)
        out(padding(member.entry.size_bytes))
    out(END)
    return digest.hexdigest()


def _write_file(member: Member, path: Path, out: Callable[[bytes], None]) -> None:
    digest, size_bytes = hashlib.sha256(), 0
    with path.open("rb") as opened:
        for chunk in chunks(opened.read, member.entry.size_bytes):
            digest.update(chunk)
            size_bytes += len(chunk)
            out(chunk)
    if (digest.hexdigest(), size_bytes) != (member.entry.sha256, member.entry.size_bytes):
        raise ArtifactError(
            f"{path} is not what its package's manifest says: expected sha256 {member.entry.sha256[:12]}, got "
            f"{digest.hexdigest()[:12]}. Nothing was packed. Export it again, or get an unaltered copy."
        )
