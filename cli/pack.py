"""`mimi-edge pack`: one file that brings a package, or tasks of one, to a device without a network."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mimi_edge.cli.defaults import package_or_default
from mimi_edge.cli.inspected import show_archive
from mimi_edge.cli.options import AsJson, PackageFolder, Tasks
from mimi_edge.cli.output import document_or, explained
from mimi_edge.cli.progress import watching
from mimi_edge.files import check_place

if TYPE_CHECKING:
    from mimi_edge.export.archives.pack import Packed


@explained
def command(
    package: PackageFolder = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The archive to write.", show_default="PACKAGE.tar, or PACKAGE-tasks.tar"),
    ] = None,
    task: Tasks = None,
    delta: Annotated[
        bool, typer.Option("--delta", help="Only the tasks, for a device that has the backbone already.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Pack a package into one archive, the same bytes each time. Engines stay: a device builds its own."""
    from mimi_edge.export.archives.pack import pack

    source = package_or_default(package)
    out = output or Path(f"{source.resolve().name}{'-tasks' if delta else ''}.tar")
    check_place(out)
    with watching() as listener:
        packed = pack(source, out, tasks=task or None, with_backbone=not delta, listener=listener)
    there = f"mimi-edge install-task {quote(packed.path.name)} package"
    document_or(
        as_json,
        _document(packed),
        lambda: show_archive(packed.path, packed.contents, packed.size_bytes, packed.sha256, there=there),
    )


def _document(packed: Packed) -> dict[str, Any]:
    contents = packed.contents
    return {
        "archive": str(packed.path),
        "kind": contents.kind,
        "size_bytes": packed.size_bytes,
        "sha256": packed.sha256,
        "backbone_sha256": contents.manifest.backbone.sha256,
        "tasks": sorted(contents.manifest.tasks),
        "files": {member.name: member.entry.size_bytes for member in contents.members},
    }
