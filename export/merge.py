"""Merges a task into a backbone's graph: graph surgery without torch, and without reading the backbone's weights.

The merged graph holds no weights. It points into the backbone's weight file and into the task file, which therefore
lie in its folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mimi_edge.errors import ArtifactError, ConfigError
from mimi_edge.export.graphs import GraphFile, GraphInfo, GraphTask, describe, graph_file, open_graph_file
from mimi_edge.files import sha256_of_bytes, write_whole
from mimi_edge.tasks.descriptions import description_of
from mimi_edge.tasks.files import TaskFile, open_task
from mimi_edge.tasks.task import HEAD_BIAS, HEAD_WEIGHT, MIMI, Task
from mimi_edge.texts import fault_list

if TYPE_CHECKING:
    import onnx_ir as ir

ACTIVATIONS = ("gelu", "relu")


@dataclass(frozen=True)
class Merged:
    """A merged graph on disk.

    Attributes:
        graph: what was written.
        size_bytes: of the graph alone, without the weights it points to.
        sha256: of the same.
    """

    graph: GraphFile
    size_bytes: int
    sha256: str

    @property
    def path(self) -> Path:
        """Of the graph."""
        return self.graph.path

    @property
    def info(self) -> GraphInfo:
        """What it says about itself."""
        return self.graph.info

    @property
    def neurons(self) -> Mapping[str, int]:
        """N at each site that has an adapter."""
        return {} if self.info.task is None else self.info.task.neurons


def merge(backbone_graph: Path, task_file: Path, out: Path) -> Merged:
    """Writes the graph of a backbone with a task in it, images [batch, 3, H, W] -> logits [batch, C].

    The same input files give the same bytes.

    Args:
        backbone_graph: `backbone.onnx`.
        task_file: the task's `.safetensors` file.
        out: the graph to write; all three lie in one folder, because a graph may not take weights from elsewhere.

    Raises:
        ArtifactError: the task belongs to another backbone, does not fit its sites, or a file is damaged.
        ConfigError: the three are not in one folder.
        OSError: the disk is full; nothing is left behind.
    """
    _check_folder(backbone_graph, task_file, out)
    file = open_task(task_file)
    return merge_opened(open_graph_file(backbone_graph), file, task_file, out)


def merge_opened(backbone: GraphFile, file: TaskFile, task_file: Path, out: Path) -> Merged:
    """The same for what was read already.

    Args:
        backbone: the bare graph.
        file: the task's.
        task_file: where the same lies beside the graph.
        out: the graph to write.
    """
    model, info, task = backbone.model(), backbone.info, file.task
    if info.task is not None:
        raise ArtifactError(f"{backbone.path} already has task {info.task.name} in it; expected the bare backbone.")
    _check_fit(task, task_file, info)
    _insert(model, file, task_file, info)
    describe(model, GraphInfo(info.backbone, task.header.preprocessing, info.sites, _graph_task(file)))
    model.graph.name = task.header.name
    return _save(model, out)


def _check_folder(backbone_graph: Path, task_file: Path, out: Path) -> None:
    folders = {path.absolute().parent for path in (backbone_graph, task_file, out)}
    if len(folders) > 1:
        listed = ", ".join(sorted(map(str, folders)))
        raise ConfigError(
            f"Backbone graph, task file and merged graph must lie in one folder; got {listed}. "
            "Copy the task file beside the backbone's graph."
        )


def _check_fit(task: Task, task_file: Path, info: GraphInfo) -> None:
    expected, got = info.backbone, task.header.backbone
    if expected.sha256 != got.sha256:
        raise ArtifactError(
            f"{task_file} was trained on {got}; this graph is {expected}. "
            "Export the backbone that the task was trained on."
        )
    if task.header.method.name != MIMI and info.parameters is None:
        raise ArtifactError(
            f"{task_file.name} is of the method {task.header.method.name}; this graph of {expected.name} was "
            f"exported by an earlier release, which knew only {MIMI}. Export all runs into a new package: "
            "mimi-edge export RUN ... --output FOLDER"
        )
    if faults := list(_misfits(task, info)):
        raise ArtifactError(
            f"{task_file} does not fit the graph of {expected.name}:\n{fault_list(faults)}\nTrain it again."
        )


def _misfits(task: Task, info: GraphInfo) -> Iterator[str]:
    """Everything in which a task of the right backbone still contradicts the graph."""
    sites = {site.name: site.width for site in info.sites}
    for site, width in task.widths.items():
        if site not in sites:
            yield f"site {site} is not in the graph"
        elif sites[site] != width:
            yield f"site {site}: the graph has width {sites[site]}, the task {width}"
    if task.header.backbone.features != info.backbone.features:
        yield f"the graph gives {info.backbone.features} features, the head takes {task.header.backbone.features}"
    if task.header.preprocessing.size != info.input_size:
        yield f"the graph takes images of {info.input_size} px, the task of {task.header.preprocessing.size} px"
    if task.header.activation not in ACTIVATIONS:
        yield f"activation {task.header.activation}: expected one of {', '.join(ACTIVATIONS)}"


def _insert(model: ir.Model, file: TaskFile, place: Path, info: GraphInfo) -> None:
    from mimi_edge.export.edits.apply import apply_edits
    from mimi_edge.export.passes.append_head import AppendHead
    from mimi_edge.export.task_weights import TaskWeights

    task = file.task
    description = description_of(task, info.network)
    weights = TaskWeights(model.graph, file, place)
    apply_edits(model, description, weights, info)
    head = AppendHead(weights.tensor(HEAD_WEIGHT), weights.tensor(HEAD_BIAS), len(task.header.classes))
    weights.place()
    head(model)


def _graph_task(file: TaskFile) -> GraphTask:
    header = file.task.header
    return GraphTask(
        header.name, header.classes, file.task.neurons, header.store.value, file.sha256, header.method.name
    )


def _save(model: ir.Model, out: Path) -> Merged:
    from mimi_edge.export.graph_files import graph_bytes

    content = graph_bytes(model)
    write_whole(out, content)
    return Merged(graph_file(out, content), len(content), sha256_of_bytes(content))
