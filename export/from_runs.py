"""From runs to a package: the backbone they were trained on, exported, and their tasks merged into it and checked."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from mimi_edge.builtin import BACKBONE_NAME
from mimi_edge.errors import MimiEdgeError
from mimi_edge.events import Listener, Note, silent
from mimi_edge.export.given import GivenTask, decoded_split, given_task, shared_backbone
from mimi_edge.export.make_package import Reference, References, export_onnx
from mimi_edge.parts import TRAIN, install_line

if TYPE_CHECKING:
    from mimi_edge.export.packages import BackboneFolder, Package
    from mimi_edge.tasks.task import Task
    from mimi_edge.training.backbones import LoadedBackbone


def package_of_runs(
    sources: Sequence[Path | GivenTask],
    package: Path,
    *,
    data: str | None = None,
    weights: str | None = None,
    backbone_graph: Path | None = None,
    threads: int | None = None,
    listener: Listener = silent,
) -> Package:
    """Merges the tasks of runs into an ONNX graph each, checks them and puts them into a package.

    Args:
        sources: run folders or task files, or what was found there.
        package: folder to make or to add to.
        data: where the images are, where not those of the run.
        weights: of the backbone, likewise.
        backbone_graph: folder with an exported backbone, so that torch is not needed.
        threads: of ONNX Runtime.
        listener: hears how far it is.

    Raises:
        ArtifactError: a task or the package belongs to another backbone, or a file is damaged.
        ConfigError: a source is no finished run, or a name or the data cannot be used.
        ExportMismatchError: a graph disagrees with what was trained; nothing was published.
        MimiEdgeError: torch is needed and not installed.
    """
    given = [source if isinstance(source, GivenTask) else given_task(source) for source in sources]
    shared_backbone([one.task for one in given])
    backbone: LoadedBackbone | None = None
    folder: BackboneFolder = backbone_graph
    if backbone_graph is None and (_has_torch() or not package.exists()):
        backbone, folder = _exported_backbone(given[0], weights, listener)
    return export_onnx(
        [one.file for one in given],
        package,
        backbone_graph_dir=folder,
        references=_references(given, data, backbone, listener),
        threads=threads,
        listener=listener,
    )


def _has_torch() -> bool:
    return find_spec("torch") is not None


def _exported_backbone(
    given: GivenTask, weights: str | None, listener: Listener
) -> tuple[LoadedBackbone, BackboneFolder]:
    """The backbone that a task belongs to, loaded, and what exports it and gives the folder of its graph."""
    if not _has_torch():
        raise MimiEdgeError(
            f"Exporting a backbone for the first time needs torch: {install_line(TRAIN)} . "
            "Without it, give --backbone-graph FOLDER, or --output with a package that has the backbone already."
        )
    from mimi_edge.export.backbone_graph import export_backbone
    from mimi_edge.training.backbones import load_backbone
    from mimi_edge.training.config import PRETRAINED
    from mimi_edge.training.references import adapted_with

    task, config = given.task, given.config
    name = task.header.backbone.name
    source = weights or (config.weights if config is not None else PRETRAINED)
    listener(Note(f"Loading the backbone {name}." if name != BACKBONE_NAME else "Loading the built-in backbone."))
    seed, size = config.seed if config is not None else 0, task.header.preprocessing.size
    backbone = load_backbone(name, source, seed=seed, image_size=size)
    adapted_with(backbone, task).release()
    return backbone, lambda: export_backbone(backbone, listener=listener).folder


def _references(
    given: list[GivenTask], data: str | None, backbone: LoadedBackbone | None, listener: Listener
) -> References:
    """What each task's graph is held against: torch where it is at hand, the test split where it is."""
    by_name = {one.name: one for one in given}

    def reference(task: Task) -> Reference:
        split = decoded_split(by_name[task.header.name], data, listener)
        logits = None
        if backbone is not None:
            from mimi_edge.training.references import reference_logits

            logits = reference_logits(backbone, task)
        if split is None:
            listener(Note(f"{task.header.name}: no --data, so its accuracy cannot be checked."))
        return Reference(logits, split)

    return reference
