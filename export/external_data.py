"""Which files a graph takes its weights from, and whether it may.

A graph is data from elsewhere. Before a runtime opens one, every reference must stay in the graph's own folder and lie
inside a file there.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mimi_edge.errors import ArtifactError
from mimi_edge.export.graphs import INPUT, GraphFile, GraphInfo, open_graph_file
from mimi_edge.files import sha256_of
from mimi_edge.tasks.files import SUFFIX
from mimi_edge.texts import fault_list

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir


LARGEST_TENSOR = 2**32
"""Elements of one tensor; the largest matrix of a ViT-g has 2**24."""
LARGEST_SIDE = 4096
"""Pixels."""
NOTHING_HASHED: Mapping[str, str] = {}


@dataclass(frozen=True)
class VerifiedGraph:
    """A graph whose references were found good.

    Attributes:
        info: what it says about itself.
        files: names of the files, all in its folder, that it takes weights from.
        graph: its file, as it was read.
    """

    info: GraphInfo
    files: frozenset[str]
    graph: GraphFile = field(repr=False, compare=False)

    @property
    def path(self) -> Path:
        """Of the graph."""
        return self.graph.path


def verify_graph(path: Path) -> VerifiedGraph:
    """Reads a graph and checks it; as of `verified_graph`."""
    return verified_graph(open_graph_file(path))


def verified_graph(graph: GraphFile, hashed: Mapping[str, str] = NOTHING_HASHED) -> VerifiedGraph:
    """Checks every reference of a graph to another file; the backbone's weights are not read.

    Args:
        graph: as it was read.
        hashed: SHA-256 of files beside it that the caller knows already; those are not read again.

    Raises:
        ArtifactError: the graph is damaged or not ours; a reference leaves the folder, names no file, or reaches past a
            file's end; or the task file beside the graph is not the one that was merged. Every fault is named.
    """
    path, model = graph.path, graph.model()
    _check_parts(graph)
    info = graph.info
    tensors = list(external_tensors(model))
    faults = sorted({fault for tensor in tensors for fault in _faults(tensor, path.parent)})
    if absurd := list(_absurd_shapes(model, info)):
        raise ArtifactError(
            f"{path} has shapes that no graph of ours has:\n{fault_list(absurd)}\nGet an unaltered copy."
        )
    if faults:
        raise ArtifactError(
            f"{path} takes weights from where it must not:\n{fault_list(faults, longest=None)}\n"
            "Export it again, or get an unaltered copy."
        )
    verified = VerifiedGraph(info, frozenset(str(tensor.location) for tensor in tensors), graph)
    _check_task_file(verified, path, hashed)
    return verified


def _check_parts(graph: GraphFile) -> None:
    """Refuses parts in which references could hide from `external_tensors`, because onnx_ir does not know them.

    Raises:
        ArtifactError: the graph has some.
    """
    import onnx

    model = graph.proto
    graphs = list(_graphs(model))
    odd = {
        "training information": bool(model.training_info),
        "sparse weights": any(graph.sparse_initializer for graph in graphs if isinstance(graph, onnx.GraphProto)),
        "sparse attributes": any(
            attribute.HasField("sparse_tensor") or attribute.sparse_tensors
            for graph in graphs
            for node in graph.node
            for attribute in node.attribute
        ),
    }
    if found := [name for name, there in odd.items() if there]:
        raise ArtifactError(
            f"{graph.path} has {' and '.join(found)}, which no graph of ours has. Get an unaltered copy."
        )


def _graphs(model: onnx.ModelProto) -> Iterator[onnx.GraphProto | onnx.FunctionProto]:
    """The graph, the functions, and the graphs inside their nodes."""
    left: list[onnx.GraphProto | onnx.FunctionProto] = [model.graph, *model.functions]
    while left:
        graph = left.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                left += [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]


def external_tensors(model: ir.Model) -> Iterator[ir.ExternalTensor]:
    """All that a graph takes from other files: initializers and attributes, in inner graphs and functions too."""
    import onnx_ir

    graphs = list(model.graphs())
    held = [value.const_value for graph in graphs for value in graph.initializers.values()]
    for nodes in (*graphs, *model.functions.values()):
        held += [tensor for node in nodes for tensor in _attribute_tensors(node)]
    yield from (tensor for tensor in held if isinstance(tensor, onnx_ir.ExternalTensor))


def _attribute_tensors(node: ir.Node) -> Iterator[ir.TensorProtocol]:
    import onnx_ir

    for attribute in node.attributes.values():
        if attribute.type is onnx_ir.AttributeType.TENSOR:
            yield attribute.value
        elif attribute.type is onnx_ir.AttributeType.TENSORS:
            yield from attribute.value


def _faults(tensor: ir.ExternalTensor, folder: Path) -> Iterator[str]:
    name = str(tensor.location)
    if not is_plain_name(name):
        yield f"{name!r} is not the name of a file in the same folder"
        return
    path = folder / name
    if fault := link_fault(path):
        yield fault
        return
    if not path.is_file():
        yield f"{name} is missing beside the graph, or is no regular file"
        return
    offset = tensor.offset or 0
    length = tensor.nbytes if tensor.length is None else tensor.length
    if length != tensor.nbytes:
        yield f"{tensor.name} needs {tensor.nbytes} bytes, got a reference to {length}"
    if offset < 0 or offset + length > path.stat().st_size:
        yield f"{tensor.name} should lie at {offset}..{offset + length} of {name}, which ends at {path.stat().st_size}"


def _absurd_shapes(model: ir.Model, info: GraphInfo) -> Iterator[str]:
    """Shapes that would make a runtime ask for more memory than there is, or read what is not there."""
    for value in model.graph.initializers.values():
        sizes = () if value.const_value is None else tuple(value.const_value.shape)
        numbers = [size for size in sizes if isinstance(size, int)]
        if len(numbers) != len(sizes) or min(numbers, default=0) < 0 or math.prod(numbers) > LARGEST_TENSOR:
            yield f"{value.name}: {list(sizes)}"
    images = next((value for value in model.graph.inputs if value.name == INPUT), None)
    shape = None if images is None or images.shape is None else list(images.shape)[1:]
    if shape != [3, *info.input_size] or max(info.input_size) > LARGEST_SIDE:
        expected = [3, *info.input_size]
        yield f"{INPUT}: [B, {shape}]; expected [B, {expected}], with sides up to {LARGEST_SIDE}"


def link_fault(path: Path) -> str | None:
    """Why a file of a folder cannot be used as a link; None where it is none, or leads to a file in the same folder.

    ONNX Runtime takes external data through links, as long as what they lead to does not leave the graph's folder.
    """
    if not path.is_symlink():
        return None
    folder, target = path.parent.resolve(), path.resolve()
    if folder in target.parents and target.is_file():
        return None
    where = f"{path.name} is a link to {path.readlink()}, "
    if not target.exists():
        return where + "which is not there"
    return where + f"outside of its folder: copy what links lead to, with cp -rL {shlex.quote(str(path.parent))} COPY"


def is_plain_name(name: str) -> bool:
    """Whether this is a file name without any folder."""
    return name not in {"", ".", ".."} and not set(name) & {"/", "\\", "\0"}


def _check_task_file(verified: VerifiedGraph, path: Path, hashed: Mapping[str, str]) -> None:
    task = verified.info.task
    for name in sorted(verified.files):
        if task and name.endswith(SUFFIX) and (hashed.get(name) or sha256_of(path.parent / name)) != task.sha256:
            raise ArtifactError(
                f"{path.parent / name} is not the task file that was merged into {path.name} (its sha256 differs). "
                "Export the task again."
            )
