"""A package's manifest: which files it consists of, what they hash to, which tasks there are, what was checked."""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mimi_edge.documents import DocumentKind, read_document, typed
from mimi_edge.errors import ArtifactError, ConfigError
from mimi_edge.export.external_data import is_plain_name
from mimi_edge.files import is_free, sha256_of, write_whole
from mimi_edge.images.image_size import ImageSize
from mimi_edge.tasks.task import BackboneIdentity
from mimi_edge.texts import excerpt, json_text

SCHEMA = 1
MANIFEST = "manifest.json"
RUN_CONFIG = "config.json"
"""What a run's folder has, which is easily taken for a package."""
RESERVED_NAMES = frozenset({"backbone", "manifest"})
LONGEST_NAME_BYTES = 200
"""File systems allow 255 bytes; what is written beside a file adds some to its name."""
DIGEST = re.compile("[0-9a-f]{64}")
"""A sha256 in small letters."""
CONTROL_CATEGORIES = frozenset({"Cc", "Cs"})
KEPT = ".previous"
"""Folder in a package that holds the files which the last installation replaced, named after their sha256."""
REMOVABLE_SUFFIXES = (".onnx", ".safetensors")
KIND = DocumentKind(
    "a package's manifest",
    largest_bytes=32_000_000,
    mend="Export the package again.",
    absent="This is not a package. Make one with: mimi-edge export --format onnx",
    newest=SCHEMA,
    open=True,
)


@dataclass(frozen=True)
class FileEntry:
    """What a file must be."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class TaskEntry:
    """A task in a manifest: names of its files, and what was checked when it was put there."""

    task: str
    graph: str
    check: Mapping[str, Any]


@dataclass(frozen=True)
class KeptTask:
    """The version of a task that the last installation replaced."""

    task: FileEntry
    graph: FileEntry
    check: Mapping[str, Any]


@dataclass(frozen=True)
class Manifest:
    """What a package consists of.

    Attributes:
        backbone: the network all its tasks share.
        input_size: H and W of the images it takes.
        files: by name.
        tasks: by name.
        pending: files of which a new version lies in the folder under `staged_name` and is still to be renamed.
        leaving: files that belonged to tasks which are gone, and are still to be removed.
        previous: what the last installation replaced, by task; None for a task that it added. Empty where there is
            nothing to go back to.
    """

    backbone: BackboneIdentity
    input_size: ImageSize
    files: Mapping[str, FileEntry]
    tasks: Mapping[str, TaskEntry]
    pending: tuple[str, ...] = field(default=())
    leaving: tuple[str, ...] = field(default=())
    previous: Mapping[str, KeptTask | None] = field(default_factory=dict)

    @property
    def unfinished(self) -> bool:
        """Whether files still are to be renamed or removed."""
        return bool(self.pending or self.leaving)

    @property
    def kept_files(self) -> dict[str, FileEntry]:
        """The files in the folder `KEPT`, by name."""
        kept = [one for one in self.previous.values() if one is not None]
        return {entry.sha256: entry for one in kept for entry in (one.task, one.graph)}

    @property
    def kept_bytes(self) -> int:
        """What the version before the last installation takes."""
        return sum(entry.size_bytes for entry in self.kept_files.values())


def is_package(folder: Path) -> bool:
    """Whether a path is a folder with a package's manifest."""
    return (folder / MANIFEST).is_file()


def is_begun(package: Path) -> bool:
    """Whether there is a package; False for nothing and for an empty folder.

    Raises:
        ConfigError: there is something else.
    """
    if is_free(package):
        return False
    if not is_package(package):
        raise ConfigError(f"{package} exists and is not a package (it has no {MANIFEST}). Choose another folder.")
    return True


def staged_name(name: str) -> str:
    """Under which name a new version of a package's file waits."""
    return f".{name}.new"


def file_entry(path: Path) -> FileEntry:
    """What a file is now."""
    return FileEntry(sha256_of(path), path.stat().st_size)


def check_task_name(name: str) -> str:
    """Gives the name back if files can be called so.

    Raises:
        ConfigError: they cannot, or should not; the message says why.
    """
    faults = []
    if not name or name.startswith("."):
        faults.append("it must not be empty or start with a dot")
    if not is_plain_name(name) or any(unicodedata.category(letter) in CONTROL_CATEGORIES for letter in name):
        faults.append("it must not hold slashes, backslashes or control characters")
    if name.casefold() in RESERVED_NAMES:
        faults.append(f"{' and '.join(sorted(RESERVED_NAMES))} are names of the package's own files")
    if len(name.encode("utf-8", "surrogatepass")) > LONGEST_NAME_BYTES:
        faults.append(f"it must not be longer than {LONGEST_NAME_BYTES} bytes")
    if faults:
        raise ConfigError(f"A task cannot be called {name!r} in a package: {'; '.join(faults)}. Train with --name.")
    return name


def clashes(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Names that some file systems take for one: they differ only in case or in how Unicode spells them."""
    alike: dict[str, set[str]] = {}
    for name in names:
        folded = unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())
        alike.setdefault(folded, set()).add(name)
    return [tuple(sorted(group)) for group in alike.values() if len(group) > 1]


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes a manifest whole.

    Raises:
        OSError: the disk is full; the old manifest stays.
    """
    write_whole(folder / MANIFEST, document_bytes(manifest_document(manifest)))


def manifest_document(manifest: Manifest) -> dict[str, Any]:
    """A manifest as JSON holds it."""
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "backbone": asdict(manifest.backbone) | {"input_size": manifest.input_size.document},
        # By hand: `asdict` copies whatever is in them, which is most of what writing a thousand tasks takes.
        "files": {
            name: {"sha256": entry.sha256, "size_bytes": entry.size_bytes} for name, entry in manifest.files.items()
        },
        "tasks": {
            name: {"task": entry.task, "graph": entry.graph, "check": entry.check}
            for name, entry in manifest.tasks.items()
        },
    }
    if manifest.pending:
        document["pending"] = sorted(manifest.pending)
    if manifest.leaving:
        document["leaving"] = sorted(manifest.leaving)
    if manifest.previous:
        document["previous"] = {
            name: None if kept is None else asdict(kept) for name, kept in manifest.previous.items()
        }
    return document


def document_bytes(document: Mapping[str, Any]) -> bytes:
    """The one way in which a manifest is written."""
    return (json_text(document, sort_keys=True) + "\n").encode()


def read_manifest(folder: Path) -> Manifest:
    """Reads a package's manifest; the files it names are not looked at.

    Raises:
        ArtifactError: there is none, or it is damaged or of a newer schema.
    """
    path = folder / MANIFEST
    if (folder / RUN_CONFIG).is_file() and not path.exists():
        raise ArtifactError(
            f"{folder} is the folder of a run, not a package. Put its task into one: mimi-edge export "
            f"{shlex.quote(str(folder))}"
        )
    manifest = _manifest(read_document(path, KIND, _Document))
    _check_names(path, manifest)
    return manifest


def parsed_manifest(document: Mapping[str, Any]) -> Manifest:
    """A manifest out of JSON.

    Raises:
        FaultyError: it lacks something, or something is of another kind; every such entry is named.
    """
    return _manifest(typed(document, _Document, unknown_entries=True))


@dataclass(frozen=True)
class _Backbone(BackboneIdentity):
    input_size: ImageSize


@dataclass(frozen=True)
class _Document:
    """A manifest as JSON holds it."""

    backbone: _Backbone
    files: Mapping[str, FileEntry]
    tasks: Mapping[str, TaskEntry]
    pending: tuple[str, ...] = ()
    leaving: tuple[str, ...] = ()
    previous: Mapping[str, KeptTask | None] = field(default_factory=dict)


def _manifest(document: _Document) -> Manifest:
    backbone = document.backbone
    identity = BackboneIdentity(backbone.name, backbone.sha256, backbone.features)
    return Manifest(**{**vars(document), "backbone": identity, "input_size": backbone.input_size})


def _check_names(path: Path, manifest: Manifest) -> None:
    """Names come from a file, so they may not lead anywhere else."""
    wrong = [name for name in manifest.files if not is_plain_name(name)]
    wrong += [
        f"{task}: {name}"
        for task, entry in manifest.tasks.items()
        for name in (entry.task, entry.graph)
        if name not in manifest.files
    ]
    wrong += [name for name in manifest.pending if name not in manifest.files]
    wrong += [name for name in manifest.leaving if not _may_leave(name, manifest)]
    wrong += [f"previous: {name}" for name in manifest.previous if name not in manifest.tasks]
    wrong += [f"{KEPT}: {name}" for name in manifest.kept_files if not is_plain_name(name) or name.startswith(".")]
    if wrong:
        named = ", ".join(map(excerpt, wrong[:5]))
        raise ArtifactError(f"{path} names what is not in the package: {named}. Export it again.")


def _may_leave(name: str, manifest: Manifest) -> bool:
    """A manifest may ask for the removal of a task's files, and of no other."""
    return is_plain_name(name) and name.endswith(REMOVABLE_SUFFIXES) and name not in manifest.files
