"""A package's manifest: which files it consists of, what they hash to, which tasks there are, what was checked."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mimi_edge.errors import ArtifactError, ConfigError
from mimi_edge.export.external_data import is_plain_name
from mimi_edge.files import sha256_of, write_whole
from mimi_edge.tasks.task import BackboneIdentity

SCHEMA = 1
MANIFEST = "manifest.json"
RESERVED_NAMES = frozenset({"backbone", "manifest"})
LONGEST_NAME_BYTES = 200
"""File systems allow 255 bytes; what is written beside a file adds some to its name."""
CONTROL_CATEGORIES = frozenset({"Cc", "Cs"})


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
class Manifest:
    """What a package consists of.

    Attributes:
        backbone: the network all its tasks share.
        input_size: S, side in pixels of the images it takes.
        files: by name.
        tasks: by name.
        pending: files of which a new version lies in the folder under `staged_name` and is still to be renamed.
    """

    backbone: BackboneIdentity
    input_size: int
    files: Mapping[str, FileEntry]
    tasks: Mapping[str, TaskEntry]
    pending: tuple[str, ...] = field(default=())


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


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes a manifest whole.

    Raises:
        OSError: the disk is full; the old manifest stays.
    """
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "backbone": asdict(manifest.backbone) | {"input_size": manifest.input_size},
        "files": {name: asdict(entry) for name, entry in manifest.files.items()},
        "tasks": {name: asdict(entry) for name, entry in manifest.tasks.items()},
    }
    if manifest.pending:
        document["pending"] = sorted(manifest.pending)
    text = json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False)
    write_whole(folder / MANIFEST, (text + "\n").encode())


def read_manifest(folder: Path) -> Manifest:
    """Reads a package's manifest; the files it names are not looked at.

    Raises:
        ArtifactError: there is none, or it is damaged or of a newer schema.
    """
    path = folder / MANIFEST
    try:
        document = json.loads(path.read_text("utf-8"))
        newer = int(document["schema"]) > SCHEMA
        manifest = None if newer else _parsed(document)
    except OSError as error:
        raise ArtifactError(
            f"{folder} is not a package: cannot read its {MANIFEST} ({error.strerror}). "
            "Make one with: mimi-edge export --format onnx"
        ) from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(f"{path} is damaged ({error!r}). Export the package again.") from error
    if manifest is None:
        raise ArtifactError(
            f"{path} has schema {document['schema']}; this mimi-edge reads up to {SCHEMA}. "
            "Upgrade: pip install --upgrade mimi-edge"
        )
    _check_names(path, manifest)
    return manifest


def _parsed(document: dict[str, Any]) -> Manifest:
    backbone = dict(document["backbone"])
    input_size = int(backbone.pop("input_size"))
    return Manifest(
        backbone=BackboneIdentity(**backbone),
        input_size=input_size,
        files={name: FileEntry(entry["sha256"], int(entry["size_bytes"])) for name, entry in document["files"].items()},
        tasks={name: TaskEntry(**entry) for name, entry in document["tasks"].items()},
        pending=tuple(document.get("pending", ())),
    )


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
    if wrong:
        raise ArtifactError(f"{path} names what is not in the package: {', '.join(wrong[:5])}. Export it again.")
