"""A model repository for NVIDIA's Triton server: a model for each task of a package.

    <task>/config.pbtxt   <task>/labels.txt   <task>/1/model.onnx, backbone.weights, <task>.safetensors

A model takes normalised images and gives logits, as the package's own graph, whose bytes it is. Its weights lie beside
it, because a graph may not take them from another folder; so each task has a copy of the backbone's.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mimi_edge.errors import ConfigError
from mimi_edge.events import Advance, Listener, silent
from mimi_edge.export.external_data import verify_graph
from mimi_edge.export.graphs import INPUT, LOGITS, GraphInfo, GraphTask
from mimi_edge.export.open_packages import Package, PackagedTask
from mimi_edge.export.staging import require_free, settle, staging_folder
from mimi_edge.files import sync
from mimi_edge.texts import canonical_json

STAGE = "write model repository"
CONFIG, LABELS, GRAPH = "config.pbtxt", "labels.txt", "model.onnx"
VERSION = "1"
LARGEST_BATCH = 8
PREPROCESSING = "mimi_edge_preprocessing"
"""Name of the parameter that tells clients, through Triton's own model configuration, what to do to an image."""


@dataclass(frozen=True)
class TritonModel:
    """One model of a repository.

    Attributes:
        name: of the task, and of the model.
        folder: that holds its configuration.
        size_bytes: of everything in it.
    """

    name: str
    folder: Path
    size_bytes: int


@dataclass(frozen=True)
class TritonRepository:
    """A model repository on disk.

    Attributes:
        folder: for `tritonserver --model-repository`.
        models: by name of the task.
    """

    folder: Path
    models: Mapping[str, TritonModel]


def export_triton(
    package: Package,
    out: Path,
    tasks: Sequence[str] | None = None,
    *,
    largest_batch: int = LARGEST_BATCH,
    listener: Listener = silent,
) -> TritonRepository:
    """Writes a model repository; its folder appears once everything in it is whole.

    Args:
        package: whose tasks to serve; its files were verified by whoever opened it.
        out: folder to make; it must not exist or be empty.
        tasks: names of those wanted; None is all.
        largest_batch: images that Triton may put together for one run.
        listener: hears how far it is.

    Raises:
        ArtifactError: a graph refers to what it must not.
        ConfigError: there is no such task, the batch is below 1, a class name has several lines, or there is something
            in the folder.
        OSError: the disk is full; nothing is left behind.
    """
    if largest_batch < 1:
        raise ConfigError(f"A batch has at least one image, got {largest_batch}.")
    require_free(out)
    chosen = [package.task(name) for name in (package.tasks if tasks is None else dict.fromkeys(tasks))]
    with staging_folder(out) as staging:
        for done, task in enumerate(chosen):
            listener(Advance(STAGE, done, len(chosen), {"task": task.name}))
            _write(package, task, staging / task.name, largest_batch)
        listener(Advance(STAGE, len(chosen), len(chosen)))
        settle(staging)
        staging.replace(out)
    sync(out.parent)
    return TritonRepository(out, {task.name: _described(out / task.name) for task in chosen})


def config_text(info: GraphInfo, task: GraphTask, largest_batch: int) -> str:
    """A model's `config.pbtxt`, protobuf's text form of Triton's ModelConfig."""
    size = info.input_size
    preprocessing = canonical_json(info.preprocessing.document())
    output = f"name: {_quoted(LOGITS)} data_type: TYPE_FP32 dims: [ {len(task.classes)} ] label_filename: "
    output += _quoted(LABELS)
    return "\n".join(
        [
            f"name: {_quoted(task.name)}",
            'backend: "onnxruntime"',
            f"max_batch_size: {largest_batch}",
            f"input [ {{ name: {_quoted(INPUT)} data_type: TYPE_FP32 dims: [ 3, {size.height}, {size.width} ] }} ]",
            f"output [ {{ {output} }} ]",
            "dynamic_batching { }",
            f"parameters {{ key: {_quoted(PREPROCESSING)} value {{ string_value: {_quoted(preprocessing)} }} }}",
            "",
        ]
    )


def _quoted(text: str) -> str:
    """A string as protobuf's text form has it: in bytes of UTF-8, of which those beyond ASCII are octal."""
    plain = {ord('"'): '\\"', ord("\\"): "\\\\"}
    encoded = (plain.get(byte) or (chr(byte) if 32 <= byte < 127 else f"\\{byte:03o}") for byte in text.encode())
    return f'"{"".join(encoded)}"'


def _write(package: Package, task: PackagedTask, folder: Path, largest_batch: int) -> None:
    version = folder / VERSION
    version.mkdir(parents=True)
    shutil.copyfile(task.graph, version / GRAPH)
    for path in (package.backbone_weights, task.task_file):
        # Copied, not linked: a repository is copied to servers, and onnx refuses weights with several hard links.
        shutil.copyfile(path, version / path.name)
    verified = verify_graph(version / GRAPH)
    if verified.info.task is None:
        raise ConfigError(f"{task.graph} has no task in it. Export the task again.")
    _check_lines(verified.info.task)
    (folder / LABELS).write_text("".join(f"{name}\n" for name in verified.info.task.classes), "utf-8")
    (folder / CONFIG).write_text(config_text(verified.info, verified.info.task, largest_batch), "utf-8")


def _check_lines(task: GraphTask) -> None:
    if broken := [name for name in task.classes if len(name.splitlines()) != 1]:
        raise ConfigError(
            f"Triton's labels are lines of a file, and class {broken[0]!r} of {task.name} is none. Rename the class, "
            "and train again."
        )


def _described(folder: Path) -> TritonModel:
    files = (path for path in folder.rglob("*") if path.is_file())
    return TritonModel(folder.name, folder, sum(path.stat().st_size for path in files))
