"""`mimi-edge export --format onnx`: from task files to a package that a device can run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimi_edge.builtin import BACKBONE_NAME
from mimi_edge.cli.output import document_or, show_table
from mimi_edge.cli.watching import watching
from mimi_edge.errors import MimiEdgeError
from mimi_edge.events import Listener, Note

if TYPE_CHECKING:
    from mimi_edge.cli.tasks import GivenTask
    from mimi_edge.export.exporting import Reference
    from mimi_edge.export.packages import Package
    from mimi_edge.tasks.task import Task
    from mimi_edge.training.backbones import LoadedBackbone


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
    from mimi_edge.cli.tasks import given_task, shared_backbone
    from mimi_edge.export.exporting import export_onnx
    from mimi_edge.tasks.files import read_task

    given = [given_task(source) for source in sources]
    shared_backbone([read_task(one.path) for one in given])
    with watching() as listener:
        backbone = None
        if backbone_graph is None and (_has_torch() or not package.exists()):
            backbone, backbone_graph = _exported_backbone(given[0], weights, listener)
        made = export_onnx(
            [one.path for one in given],
            package,
            backbone_graph_dir=backbone_graph,
            references=_references(given, data, backbone, listener),
            threads=threads,
            listener=listener,
        )
    exported = {read_task(one.path).header.name for one in given}
    document_or(as_json, _document(made, exported), lambda: _show(made, exported))


def _has_torch() -> bool:
    from importlib.util import find_spec

    return find_spec("torch") is not None


def _exported_backbone(given: GivenTask, weights: str | None, listener: Listener) -> tuple[LoadedBackbone, Path]:
    """The backbone that a task belongs to, loaded, and the folder of its graph."""
    if not _has_torch():
        raise MimiEdgeError(
            'Exporting a backbone for the first time needs torch: pip install "mimi-edge[train]". '
            "Without it, give --backbone-graph FOLDER, or --output with a package that has the backbone already."
        )
    from mimi_edge.export.backbone_graph import export_backbone
    from mimi_edge.tasks.files import read_task
    from mimi_edge.training.backbones import load_backbone
    from mimi_edge.training.config import PRETRAINED
    from mimi_edge.training.references import adapted_with

    task, config = read_task(given.path), given.config
    name = task.header.backbone.name
    source = weights or (config.weights if config is not None else PRETRAINED)
    listener(Note(f"Loading the backbone {name}." if name != BACKBONE_NAME else "Loading the built-in backbone."))
    backbone = load_backbone(name, source, seed=config.seed if config is not None else 0)
    adapted_with(backbone, task).release()
    return backbone, export_backbone(backbone, listener=listener).folder


def _references(given: list[GivenTask], data: str | None, backbone: LoadedBackbone | None, listener: Listener) -> Any:
    """What each task's graph is held against: torch where it is at hand, the test split where it is."""
    from mimi_edge.cli.tasks import decoded_split
    from mimi_edge.export.exporting import Reference
    from mimi_edge.tasks.files import read_task

    by_name = {read_task(one.path).header.name: one for one in given}

    def reference(task: Task) -> Reference:
        split = decoded_split(by_name[task.header.name], data, listener)
        logits = None
        if backbone is not None:
            from mimi_edge.training.references import reference_logits

            logits = reference_logits(backbone, task)
        if split is None:
            listener(Note(f"{task.header.name}: no --data, so its accuracy cannot be checked."))
            return Reference(logits=logits)
        return Reference(logits=logits, images=split.images, labels=split.labels)

    return reference


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
