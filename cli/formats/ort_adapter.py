"""`mimi-edge export --format ort-adapter`: for those who stay on ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mimi_edge.cli.defaults import say_next
from mimi_edge.cli.formats.onnx import Making
from mimi_edge.cli.output import document_or, show_table
from mimi_edge.cli.progress import watching
from mimi_edge.profiles.rendering.table import Table


def export(
    sources: Sequence[Path], output: Path, making: Making, *, tasks: Sequence[str] | None, as_json: bool
) -> None:
    """Writes one graph with overridable adapters and a `.onnx_adapter` file for each task; says what was found.

    Args:
        sources: one package; run folders and task files are put into one first; none is the run finished last.
        output: folder to make.
        making: how tasks become a package; its threads are those of ONNX Runtime, which compares the answers, too.
        tasks: names of those to export; all by default.
        as_json: print JSON.

    Raises:
        ConfigError: several packages were given.
    """
    from mimi_edge.cli.formats.targets import only_target
    from mimi_edge.export.open_packages import opened_package
    from mimi_edge.export.ort_adapters import export_ort_adapters

    target = only_target(sources, making, as_json=as_json)
    with watching() as listener, opened_package(target.package.folder, tasks) as package:
        made = export_ort_adapters(package, output, tasks, threads=making.threads, listener=listener)
    entries: dict[str, dict[str, Any]] = {
        name: {
            "file": str(made.folder / entry.file),
            "file_bytes": (made.folder / entry.file).stat().st_size,
            "task_file_bytes": package.task(name).task_file.stat().st_size,
            "check": dict(entry.check),
        }
        for name, entry in made.tasks.items()
    }
    everything = sum(path.stat().st_size for path in made.folder.iterdir())
    shared = everything - sum(entry["file_bytes"] for entry in entries.values())
    document = {"folder": str(made.folder), "graph": str(made.graph), "shared_bytes": shared, "tasks": entries}
    rows = [
        (name, f"{entry['file_bytes']:,}", f"{entry['task_file_bytes']:,}", _in_words(entry["check"]))
        for name, entry in entries.items()
    ]
    title = f"Adapters for ONNX Runtime in {made.folder}, shared by all {shared:,} bytes"
    columns = ("task", "adapter file, bytes", "task file, bytes", "against the merged graph")
    document_or(as_json, document, lambda: show_table(Table.of(title, columns, rows)))
    say_next("mimi-edge", "predict", made.folder, "photo.jpg")


def _in_words(check: object) -> str:
    if not isinstance(check, dict) or "relative_difference" not in check:
        return str(check)
    return f"logits within {check['relative_difference']:.1e} (allowed {check['tolerance']:g})"
