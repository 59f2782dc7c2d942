"""From runs to a package: the backbone they were trained on, exported, and their tasks merged into it and checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from mimi_edge.builtin import BACKBONE_NAME
from mimi_edge.errors import MimiEdgeError
from mimi_edge.events import Listener, Note, silent
from mimi_edge.export.given import GivenTask, decoded_split, given_task, shared_backbone
from mimi_edge.export.make_package import Reference, References, export_onnx
from mimi_edge.export.manifest import is_package
from mimi_edge.parts import TRAIN, install_line
from mimi_edge.training.recorded_answers import RecordedAnswers, answered_positions

if TYPE_CHECKING:
    from mimi_edge.export.open_packages import Package
    from mimi_edge.export.packages import BackboneFolder
    from mimi_edge.images.decode import LabelledImages
    from mimi_edge.tasks.stores import Floats
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
    loaded: Callable[[], LoadedBackbone] | None = None
    if backbone_graph is None and (_has_torch() or not package.exists()):
        loaded = cache(lambda: _loaded_backbone(given[0], weights, listener))
    recorded = {one.name: one.run.answers for one in given if one.run is not None and one.run.answers is not None}
    # Loading torch takes longer than all the rest: not where its answers are written down and the graph is there.
    if loaded is not None and not (weights is None and is_package(package) and len(recorded) == len(given)):
        loaded()
    return export_onnx(
        [one.file for one in given],
        package,
        backbone_graph_dir=_graph_folder(loaded, listener) if loaded is not None else backbone_graph,
        references=_references(given, data, loaded, recorded, listener),
        threads=threads,
        listener=listener,
    )


def _has_torch() -> bool:
    return find_spec("torch") is not None


def _loaded_backbone(given: GivenTask, weights: str | None, listener: Listener) -> LoadedBackbone:
    """The backbone that a task belongs to."""
    if not _has_torch():
        raise MimiEdgeError(
            f"Exporting a backbone for the first time needs torch: {install_line(TRAIN)} . "
            "Without it, give --backbone-graph FOLDER, or --output with a package that has the backbone already."
        )
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
    return backbone


def _graph_folder(loaded: Callable[[], LoadedBackbone], listener: Listener) -> BackboneFolder:
    """What exports the backbone, should the package not have it, and gives the folder of its graph."""

    def folder() -> Path:
        from mimi_edge.export.backbone_graph import export_backbone

        return export_backbone(loaded(), listener=listener).folder

    return folder


def _references(
    given: list[GivenTask],
    data: str | None,
    loaded: Callable[[], LoadedBackbone] | None,
    recorded: Mapping[str, RecordedAnswers],
    listener: Listener,
) -> References:
    """What each task's graph is held against: torch, or what it answered after training, and the test split."""
    by_name = {one.name: one for one in given}

    def reference(task: Task) -> Reference:
        split = decoded_split(by_name[task.header.name], data, listener)
        logits = _recorded_logits(recorded.get(task.header.name), split)
        if logits is None and loaded is not None:
            from mimi_edge.training.references import reference_logits

            logits = reference_logits(loaded(), task)
        if split is None:
            listener(Note(f"{task.header.name}: no --data, so its accuracy cannot be checked."))
        return Reference(logits, split)

    return reference


def _recorded_logits(
    recorded: RecordedAnswers | None, split: LabelledImages | None
) -> Callable[[Floats], Floats] | None:
    """Answers that were recorded for these very images, for `export_onnx`, which compares on the same."""
    if recorded is None or split is None:
        return None
    return (lambda _images: recorded.logits) if recorded.are_of(split.images[answered_positions(len(split))]) else None
