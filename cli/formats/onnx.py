"""`mimi-edge export --format onnx`: from task files to a package that a device can run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimi_edge.cli.defaults import PACKAGE, RUNS, newest_run, say_next
from mimi_edge.cli.output import document_or, show_table
from mimi_edge.cli.progress import watching
from mimi_edge.profiles.rendering.table import Table

if TYPE_CHECKING:
    from mimi_edge.export.given import GivenTask
    from mimi_edge.export.open_packages import Package


@dataclass(frozen=True)
class Making:
    """How tasks become a package.

    Attributes:
        package: folder to make or to add to.
        data: where the images are, where not those of the run.
        weights: of the backbone, likewise.
        backbone_graph: folder with an exported backbone, so that torch is not needed.
        threads: of ONNX Runtime.
    """

    package: Path
    data: str | None = None
    weights: str | None = None
    backbone_graph: Path | None = None
    threads: int | None = None


def export(sources: Sequence[Path], making: Making, *, as_json: bool) -> None:
    """Merges tasks into an ONNX graph each, checks them and puts them into a package; says what was found.

    Args:
        sources: run folders or task files; none means the run that was finished last.
        making: how.
        as_json: print JSON.
    """
    from mimi_edge.export.given import given_task

    given = [given_task(source) for source in sources or [newest_run()]]
    made = make_package(given, making)
    document_or(as_json, package_document(made, given), lambda: show_package(made, given))
    say_next(*profile_command(making.package, given))


def make_package(given: Sequence[GivenTask], making: Making) -> Package:
    """Makes the package, or adds to it.

    Raises:
        ArtifactError: the tasks belong to several backbones, or to another than the package's.
        ExportMismatchError: a graph does not answer what was trained; the package is as it was.
        MimiEdgeError: there is no backbone, and no torch to export it with.
    """
    from mimi_edge.export.from_runs import package_of_runs

    with watching() as listener:
        return package_of_runs(
            given,
            making.package,
            data=making.data,
            weights=making.weights,
            backbone_graph=making.backbone_graph,
            threads=making.threads,
            listener=listener,
        )


def profile_command(package: Path, given: Sequence[GivenTask]) -> list[str]:
    """The line that measures a package: bare where `profile` finds by itself what was exported."""
    runs = [one.path.parent for one in given if one.config is not None]
    if package == PACKAGE and all(run.parent == RUNS for run in runs):
        return ["mimi-edge", "profile"]
    named = [part for run in runs for part in ("--run", str(run))]
    return ["mimi-edge", "profile", str(package), *named]


def package_document(package: Package, given: Sequence[GivenTask]) -> dict[str, Any]:
    """What was put into a package, as JSON can hold it."""
    names = {one.name for one in given}
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


def show_package(package: Package, given: Sequence[GivenTask]) -> None:
    """What was put into a package, for people."""
    document = package_document(package, given)
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
    show_table(Table.of(f"Package {package.folder}, backbone {document['backbone_bytes']:,} bytes", columns, rows))


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
