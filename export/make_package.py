"""Makes a package and publishes it only once every task in it was checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mimi_edge.events import Advance, Listener, silent
from mimi_edge.export.external_data import verified_graph
from mimi_edge.export.onnx_runtime import OnnxModel, open_verified, runtime_version
from mimi_edge.export.open_packages import Package
from mimi_edge.export.packages import BackboneFolder, StagedTask, create_or_extend
from mimi_edge.export.parity import TOLERANCE, check_accuracy, check_outputs
from mimi_edge.images.decode import LabelledImages
from mimi_edge.images.preprocessing import normalise
from mimi_edge.images.splits import spread
from mimi_edge.tasks.files import TaskFile
from mimi_edge.tasks.stores import Floats
from mimi_edge.tasks.task import Task
from mimi_edge.training.recorded_answers import MOST_IMAGES

STAGE = "check export"
RANDOM_IMAGES = 16


@dataclass(frozen=True)
class Reference:
    """What to hold one task's graph against.

    Attributes:
        logits: what torch answers with the task file's weights: normalised images [B, 3, H, W] -> [B, C]; None where
            there is no torch.
        images: of a whole split; None where there are none.
        compared: on how many of the images logits are compared.
    """

    logits: Callable[[Floats], Floats] | None = None
    images: LabelledImages | None = None
    compared: int = MOST_IMAGES


References = Callable[[Task], Reference]


def no_reference(_task: Task) -> Reference:
    """Nothing to compare with."""
    return Reference()


def export_onnx(
    task_files: Sequence[Path | TaskFile],
    package: Path,
    *,
    backbone_graph_dir: BackboneFolder,
    references: References = no_reference,
    tolerance: float = TOLERANCE,
    threads: int | None = None,
    listener: Listener = silent,
) -> Package:
    """Merges tasks into a backbone's graph, checks each in ONNX Runtime, and publishes the package.

    Args:
        task_files: to put in, or where they are.
        package: folder to make or to add to.
        backbone_graph_dir: folder from `export_backbone`, or what gives it; may be None where the package exists.
        references: gives what to hold each task against; what it lacks is recorded in the package as not run.
        tolerance: of the logits, as a share of the largest.
        threads: of ONNX Runtime.
        listener: hears how far it is.

    Raises:
        ExportMismatchError: a graph disagrees with its reference; nothing was published.
        ArtifactError: a task or the package belongs to another backbone, or a file is damaged.
        ConfigError: a task's name cannot be used, or the folder holds something else.
        OSError: the disk is full; nothing was published.
    """
    done = 0

    def check(staged: StagedTask) -> Mapping[str, Any]:
        nonlocal done
        listener(Advance(STAGE, done, len(task_files), {"task": staged.name}))
        figures = check_task(staged, references(staged.file.task), tolerance=tolerance, threads=threads)
        done += 1
        listener(Advance(STAGE, done, len(task_files), {"task": staged.name}))
        return figures

    return create_or_extend(package, backbone_graph_dir, task_files, check=check, listener=listener)


def check_task(
    staged: StagedTask, reference: Reference, *, tolerance: float = TOLERANCE, threads: int | None = None
) -> dict[str, Any]:
    """Holds one merged graph against its reference.

    Returns:
        Figures for the manifest: `outputs` and `accuracy`, each a table of figures or "not run: why"; `runtime`.

    Raises:
        ExportMismatchError: they disagree.
    """
    version = runtime_version()
    if version is None:
        why = "not run: ONNX Runtime is not installed"
        return {"outputs": why, "accuracy": why}
    task, hashed = staged.file.task, {name: entry.sha256 for name, entry in staged.files.items()}
    model = open_verified(verified_graph(staged.merged.graph, hashed), threads=threads)
    return {
        "runtime": f"onnxruntime {version} {model.session.get_providers()[0]}",
        "outputs": _outputs(model, task, reference, tolerance),
        "accuracy": _accuracy(model, task, reference, tolerance),
    }


def _outputs(model: OnnxModel, task: Task, reference: Reference, tolerance: float) -> dict[str, Any] | str:
    if reference.logits is None:
        return "not run: no torch model to compare with"
    images, kind = _compared_images(task, reference)
    return asdict(check_outputs(model, reference.logits(images), images, tolerance)) | {"kind": kind}


def _compared_images(task: Task, reference: Reference) -> tuple[Floats, str]:
    """Normalised images spread over the split, or noise where there is no split."""
    if reference.images is None or not len(reference.images):
        size = task.header.preprocessing.size
        noise = np.random.default_rng(0).standard_normal((RANDOM_IMAGES, 3, *size), np.float32)
        return noise, "random noise"
    chosen = spread(len(reference.images), reference.compared)
    return normalise(reference.images.images[chosen], task.header.preprocessing), f"{reference.images.name} split"


def _accuracy(model: OnnxModel, task: Task, reference: Reference, tolerance: float) -> dict[str, Any] | str:
    if (split := reference.images) is None:
        return "not run: no labelled images were given"
    if (expected := task.header.accuracy.get(split.name)) is None:
        return f"not run: the task file says nothing about its {split.name} split"
    check = check_accuracy(model, split.images, split.labels, expected, task.header.preprocessing, tolerance=tolerance)
    return asdict(check) | {"split": split.name, "accuracy": check.accuracy}
