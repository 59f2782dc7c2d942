"""`mimi-edge cache`: what is kept between runs, and making room."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mimi_edge.cli.options import AsJson
from mimi_edge.cli.output import document_or, explained, say, show_table
from mimi_edge.profiles.rendering.table import Table

if TYPE_CHECKING:
    from mimi_edge.cached_files import CachedEntry


@explained
def command(
    clear: Annotated[
        bool, typer.Option("--clear", help="Remove what is listed, except what a running process uses.")
    ] = False,
    older_than: Annotated[
        float | None,
        typer.Option(min=0, help="Only what was last used more than so many days ago.", show_default="everything"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List what the cache folder holds, by kind, with sizes and last use; --clear makes room."""
    from mimi_edge.cached_files import cached_entries
    from mimi_edge.cached_files import clear as cleared
    from mimi_edge.caches import default_cache

    cache = default_cache()
    found = cached_entries(cache, older_than or 0.0)
    kept = cleared(found) if clear else found
    removed = [entry for entry in found if entry not in kept]
    kinds = _kinds(kept)
    document = {
        "cache": str(cache),
        "kinds": kinds,
        "removed": {"entries": len(removed), "size_bytes": _bytes(removed)},
    }
    document_or(as_json, document, lambda: _show(cache, kinds))
    if clear:
        say(f"Removed {_megabytes(_bytes(removed))} MB, {len(removed)} of {len(found)}.")
    if clear and kept:
        say(f"In use by running processes, and left: {', '.join(str(entry.path) for entry in kept[:5])}.")


def _kinds(entries: Sequence[CachedEntry]) -> list[dict[str, Any]]:
    """The entries of each kind, added up; kinds without any are left out."""
    from mimi_edge.cached_files import KINDS

    by_kind = {kind: [entry for entry in entries if entry.kind == kind] for kind in KINDS}
    return [
        {
            "kind": kind,
            "holds": KINDS[kind],
            "entries": len(found),
            "size_bytes": _bytes(found),
            "last_used": _when(max(entry.used for entry in found)),
        }
        for kind, found in by_kind.items()
        if found
    ]


def _bytes(entries: Sequence[CachedEntry]) -> int:
    return sum(entry.size_bytes for entry in entries)


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).astimezone().isoformat(timespec="seconds")


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f}"


def _show(cache: Path, kinds: Sequence[dict[str, Any]]) -> None:
    if not kinds:
        say(f"There is nothing of this in {cache}.")
        return
    rows = [
        (one["kind"], one["holds"], one["entries"], _megabytes(one["size_bytes"]), one["last_used"][:10])
        for one in kinds
    ]
    show_table(Table.of(f"Cache {cache}", ("kind", "holds", "entries", "MB", "last used"), rows))
