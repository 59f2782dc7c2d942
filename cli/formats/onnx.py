"""`mimi-edge export --format onnx`: from task files to a package that a device can run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimi_edge.cli.output import document_or, show_table
from mimi_edge.cli.watching import watching

if TYPE_CHECKING:
    from mimi_edge.export.packages import Package


def export(
    sources: Sequence[Path],
    package: Path,
    *,
    data: str | None,
    weights: str | None,
    backbone_graph: Path | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Merges tasks into an ONNX graph each, checks them and puts them into a package; says what was found.

    Args:
        sources: run folders or task files.
        package: folder to make or to add to.
        data: where the images are, where not those of the run.
        weights: of the backbone, likewise.
        backbone_graph: folder with an exported backbone, so that torch is not needed.
        threads: of ONNX Runtime.
        as_json: print JSON.
    """
    from mimi_edge.export.from_runs import package_of_runs
    from mimi_edge.export.given import given_task
    from mimi_edge.tasks.files import read_task

    with watching() as listener:
        made = package_of_runs(
            sources,
            package,
            data=data,
            weights=weights,
            backbone_graph=backbone_graph,
            threads=threads,
            listener=listener,
        )
    exported = {read_task(given_task(source).path).header.name for source in sources}
    document_or(as_json, _document(made, exported), lambda: _show(made, exported))


def _document(package: Package, names: set[str]) -> dict[str, Any]:
    chosen = {name: task for name, task in package.tasks.items() if name in names}
    return {
        "package": str(package.folder),
        "backbone_bytes": package.backbone_graph.stat().st_size + package.backbone_weights.stat().st_size,
        "tasks": {
            name: {
                "graph": str(task.graph),
                "graph_bytes": task.graph.stat().st_size,
                "task_file": str(task.task_file),
                "task_file_bytes": task.task_file.stat().st_size,
                "check": dict(task.check),
            }
            for name, task in chosen.items()
        },
    }


def _show(package: Package, names: set[str]) -> None:
    document = _document(package, names)
    rows = [
        (
            name,
            f"{task['task_file_bytes']:,}",
            f"{task['graph_bytes']:,}",
            _outputs_in_words(task["check"].get("outputs")),
            _accuracy_in_words(task["check"].get("accuracy")),
        )
        for name, task in document["tasks"].items()
    ]
    columns = ("task", "task file, bytes", "graph, bytes", "against torch", "test accuracy of the graph")
    show_table(f"Package {package.folder}, backbone {document['backbone_bytes']:,} bytes", columns, rows)


def _outputs_in_words(check: object) -> str:
    """What the comparison with torch found, in a few words."""
    if not isinstance(check, dict):
        return str(check)
    same = f"{check['same_top1']}/{check['images']} same top-1"
    return f"{same}, logits within {check['relative_difference']:.1e} (allowed {check['tolerance']:g})"


def _accuracy_in_words(check: object) -> str:
    """What the count over the test split found, in a few words."""
    if not isinstance(check, dict):
        return str(check)
    return f"{check['accuracy']:.2%}, task file {check['expected_right'] / check['images']:.2%}"
