"""What an archive holds, and what it may.

    manifest.json  SHA256SUMS  README.txt  backbone.onnx  backbone.weights  <task>.onnx  <task>.safetensors  ...

The manifest is that of a package, with one entry more that says what kind of archive it is. An archive of tasks alone
has no backbone; its manifest says what the backbone's files on the device must be.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property

from mimi_edge.documents import FaultyError, json_value, typed
from mimi_edge.errors import ConfigError
from mimi_edge.export.archives.tar import END, LARGEST_MEMBER_BYTES, member_header, padding
from mimi_edge.export.graphs import BACKBONE_FILES, GRAPH_SUFFIX
from mimi_edge.export.manifest import (
    DIGEST,
    MANIFEST,
    SCHEMA,
    FileEntry,
    Manifest,
    check_task_name,
    clashes,
    document_bytes,
    manifest_document,
    parsed_manifest,
)
from mimi_edge.parts import upgrade_words
from mimi_edge.tasks.files import SUFFIX

FORMAT = 1
KEY = "archive"
README = "README.txt"
SUMS = "SHA256SUMS"
FULL, TASKS = "full", "tasks"

LARGEST_MANIFEST_BYTES = 8_000_000
LARGEST_BYTES = {README: 8_000_000, GRAPH_SUFFIX: 64_000_000, SUFFIX: 256_000_000}
"""Of a file by its name or the end of it: these are read into memory. Weights may be as large as tar can say."""
LARGEST_ARCHIVE_BYTES = 16_000_000_000


@dataclass(frozen=True)
class Member:
    """One file in an archive.

    Attributes:
        name: of the file.
        entry: what it must be.
        content: its bytes, where the manifest settles them.
    """

    name: str
    entry: FileEntry
    content: bytes | None = None

    @cached_property
    def header(self) -> bytes:
        """What stands before it in the archive."""
        return member_header(self.name, self.entry.size_bytes)

    @property
    def stored_bytes(self) -> int:
        """What it takes in the archive."""
        return len(self.header) + self.entry.size_bytes + len(padding(self.entry.size_bytes))


@dataclass(frozen=True)
class Contents:
    """What an archive holds; nothing here was checked before `faults` is empty.

    Attributes:
        manifest: of the files in the archive.
        needs: what the backbone's files on the device must be, by name; empty where the archive has them.
    """

    manifest: Manifest
    needs: Mapping[str, FileEntry] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """`full` with a backbone, `tasks` without."""
        return TASKS if self.needs else FULL

    @property
    def backbone_files(self) -> dict[str, FileEntry]:
        """What the backbone's files are, whether they are in the archive or must be on the device."""
        return {name: (self.needs or self.manifest.files)[name] for name in BACKBONE_FILES}

    @cached_property
    def manifest_bytes(self) -> bytes:
        """The content of the manifest."""
        needs = {name: asdict(entry) for name, entry in self.needs.items()}
        note = {KEY: {"format": FORMAT, "kind": self.kind, "needs": needs}}
        return document_bytes(manifest_document(self.manifest) | note)

    @cached_property
    def members(self) -> tuple[Member, ...]:
        """All files, in their order in the archive."""
        files = self.manifest.files
        listed = [Member(name, files[name]) for name in sorted(files, key=lambda name: (name != README, name))]
        manifest = _given(MANIFEST, self.manifest_bytes)
        sums = "".join(f"{member.entry.sha256}  {member.name}\n" for member in (manifest, *listed))
        return (manifest, _given(SUMS, sums.encode()), *listed)

    @property
    def size_bytes(self) -> int:
        """Of the whole archive."""
        return sum(member.stored_bytes for member in self.members) + len(END)


def _given(name: str, content: bytes) -> Member:
    return Member(name, FileEntry(hashlib.sha256(content).hexdigest(), len(content)), content)


def read_contents(content: bytes) -> tuple[Contents | None, list[str]]:
    """Reads an archive's manifest.

    Returns:
        The contents, or None where something about them must not be, and every such fault.
    """
    try:
        document = json_value(content, largest_bytes=LARGEST_MANIFEST_BYTES)
        note = typed(document, _Document, unknown_entries=True)
        if newer := _newer(note):
            return None, [newer]
        contents = Contents(parsed_manifest(document), note.archive.needs)
        faults = contents_faults(contents)
        # One spelling only: no entry twice, none that is unknown, no number that is a text.
        if not faults and contents.manifest_bytes != content:
            faults.append(f"{MANIFEST} is not written as mimi-edge pack writes it")
    except FaultyError as error:
        return None, [f"{MANIFEST} is no archive's manifest: {fault}" for fault in error.faults]
    return (None if faults else contents), faults


@dataclass(frozen=True)
class _Note:
    """What an archive's manifest says beyond a package's."""

    format: int
    kind: str
    needs: Mapping[str, FileEntry]


@dataclass(frozen=True)
class _Document:
    schema: int
    archive: _Note


def _newer(document: _Document) -> str | None:
    stated = {"archive format": (document.archive.format, FORMAT), "schema": (document.schema, SCHEMA)}
    for name, (got, known) in stated.items():
        if got > known:
            return f"it has {name} {got}; this mimi-edge reads up to {known}. {upgrade_words()}"
    return None


def contents_faults(contents: Contents) -> list[str]:
    """Everything about an archive's manifest that must not be: names, kinds of values, sizes."""
    manifest = contents.manifest
    if faults := _value_faults(contents) + _name_faults(contents):
        return faults
    faults = [f"{name}: {fault}" for name, entry in manifest.files.items() if (fault := _size_fault(name, entry))]
    if contents.size_bytes > LARGEST_ARCHIVE_BYTES:
        faults.append(
            f"it is said to hold {contents.size_bytes:,} bytes; at most {LARGEST_ARCHIVE_BYTES:,} are allowed"
        )
    return faults


def _value_faults(contents: Contents) -> list[str]:
    manifest = contents.manifest
    files = (*manifest.files.items(), *contents.needs.items())
    faults = [
        f"{name!r} has no sha256 or no size"
        for name, entry in files
        if not DIGEST.fullmatch(entry.sha256) or entry.size_bytes < 0
    ]
    if not DIGEST.fullmatch(manifest.backbone.sha256) or manifest.backbone.features < 0:
        faults.append("the backbone has no sha256 or no width")
    if manifest.unfinished or manifest.previous:
        faults.append("files are said to be pending, leaving or kept, which an archive cannot have")
    return faults


def _name_faults(contents: Contents) -> list[str]:
    """An archive's files are called after its tasks, or are a few that are always called the same."""
    manifest = contents.manifest
    faults = []
    expected = {README}
    for name, task in manifest.tasks.items():
        try:
            check_task_name(name)
        except ConfigError as error:
            faults.append(str(error))
        if (task.task, task.graph) != (name + SUFFIX, name + GRAPH_SUFFIX):
            faults.append(f"task {name!r}: its files are called {task.task!r} and {task.graph!r}")
        expected |= {name + SUFFIX, name + GRAPH_SUFFIX}
    if contents.needs and set(contents.needs) != set(BACKBONE_FILES):
        faults.append(f"it needs {', '.join(map(repr, contents.needs))}; expected {' and '.join(BACKBONE_FILES)}")
    expected |= set() if contents.needs else set(BACKBONE_FILES)
    faults += [f"{name!r} is a file that no archive has" for name in sorted(manifest.files.keys() - expected)]
    faults += [f"{name!r} is not listed" for name in sorted(expected - manifest.files.keys())]
    for group in clashes([*expected, *manifest.files]):
        faults.append(f"{', '.join(map(repr, group))} differ only in case or in their Unicode spelling")
    return faults


def _size_fault(name: str, entry: FileEntry) -> str | None:
    limits = [limit for end, limit in LARGEST_BYTES.items() if name.endswith(end)]
    largest = min([LARGEST_MEMBER_BYTES, *limits])
    if entry.size_bytes <= largest:
        return None
    return f"it is said to have {entry.size_bytes:,} bytes; at most {largest:,} are allowed"
