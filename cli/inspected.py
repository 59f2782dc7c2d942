"""What `mimi-edge inspect` shows of what is neither task, package, graph nor run: archives, adapters, reports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimi_edge.cli.output import show_facts, show_table
from mimi_edge.cli.progress import watching
from mimi_edge.errors import ArtifactError
from mimi_edge.profiles.rendering.table import Table
from mimi_edge.texts import fault_list

if TYPE_CHECKING:
    from mimi_edge.export.archives.contents import Contents

Inspected = tuple[dict[str, Any], Callable[[], None]]
"""A document for programs, and what shows it to people."""
ARCHIVE_SUFFIXES = (".mimi", ".tar")
ADAPTERS = "ort-adapters.json"


def is_adapters(folder: Path) -> bool:
    """Whether a path is a folder of `export --format ort-adapter`."""
    return (folder / ADAPTERS).is_file()


def archive(path: Path) -> Inspected:
    """What an archive of `pack` holds, every byte of it hashed; nothing is unpacked.

    Raises:
        ArtifactError: it is damaged, or none.
    """
    from mimi_edge.export.archives.read import examine

    with watching() as listener:
        found = examine(path, listener)
    contents = found.contents
    if contents is None or found.faults:
        raise ArtifactError(
            f"{path} is damaged, or no archive of mimi-edge pack:\n{fault_list(found.faults)}\nGet an unaltered copy."
        )
    manifest, files = contents.manifest, {member.name: member.entry.size_bytes for member in contents.members}
    document: dict[str, Any] = {
        "kind": "archive",
        "path": str(path),
        "size_bytes": found.size_bytes,
        "sha256": found.sha256,
        "holds": contents.kind,
        "backbone": asdict(manifest.backbone),
        "tasks": {
            name: {"task_file": entry.task, "task_file_bytes": files.get(entry.task), "graph": entry.graph}
            for name, entry in manifest.tasks.items()
        },
        "files": files,
    }

    def show() -> None:
        show_archive(path, contents, found.size_bytes, found.sha256)

    return document, show


def show_archive(path: Path, contents: Contents, size_bytes: int, sha256: str, **more: str) -> None:
    """Files and facts of an archive, for people; `more` facts come last."""
    rows = [(member.name, f"{member.entry.size_bytes:,}") for member in contents.members]
    show_table(Table.of(f"Archive {path}", ("file", "bytes"), rows))
    inside = "not in it: the device must have it" if contents.needs else "in it"
    facts = {
        "sha256": sha256,
        "backbone": f"{contents.manifest.backbone}, {inside}",
        "tasks": ", ".join(contents.manifest.tasks),
    }
    show_facts(f"In all {size_bytes:,} bytes", {**facts, **more})


def adapters(path: Path) -> Inspected:
    """What a folder of `export --format ort-adapter` holds.

    Raises:
        ArtifactError: it is damaged.
    """
    from mimi_edge.export.ort_adapters import read_ort_adapters

    found = read_ort_adapters(path)
    document: dict[str, Any] = {
        "kind": "ort-adapters",
        "path": str(path),
        "backbone": asdict(found.backbone) | {"input_size": found.input_size.document},
        "store": found.store.value,
        "padded": found.padded,
        "tasks": {
            name: {"file": task.file, "file_bytes": found.files[task.file].size_bytes, "classes": list(task.classes)}
            for name, task in found.tasks.items()
        },
    }

    def show() -> None:
        rows = [
            (name, len(task["classes"]), f"{task['file_bytes']:,}", task["file"])
            for name, task in document["tasks"].items()
        ]
        show_table(Table.of(f"Adapters for ONNX Runtime in {path}", ("task", "classes", "bytes", "file"), rows))
        shared = {
            "backbone": found.backbone,
            "graph": found.graph.name,
            "input": f"{found.input_size.in_words} pixels",
            "weights": f"{found.store.value}{', padded to one shape' if found.padded else ''}",
        }
        show_facts("Shared by all tasks", shared)

    return document, show


def report(path: Path) -> Inspected:
    """What a report of `profile` holds.

    Raises:
        ArtifactError: it is damaged, or none.
    """
    from mimi_edge.profiles.rendering.tables import latency_table
    from mimi_edge.profiles.report_comparison import read_report
    from mimi_edge.profiles.report_documents import report_document

    found = read_report(path)
    facts = {
        "made": found.made,
        "artefacts": ", ".join(one.name for one in found.artefacts),
        "failed": ", ".join(one.name for one in found.artefacts if one.failure is not None) or "none",
        "compare": "mimi-edge compare-reports BEFORE.json AFTER.json",
    }

    def show() -> None:
        show_table(
            latency_table(found).only(("artefact", "batch", "p50 ms", "p99 ms", "images/s"), title=f"Report {path}")
        )
        show_facts("In all", facts)

    return {"kind": "report", "path": str(path), "report": report_document(found)}, show
