"""Which files a graph takes its weights from, and whether it may.

A graph is data from elsewhere. Before a runtime opens one, every reference must stay in the graph's own folder and lie
inside a file there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mimi_edge.errors import ArtifactError
from mimi_edge.export.graphs import graph_info, load_graph
from mimi_edge.files import sha256_of

if TYPE_CHECKING:
    import onnx_ir as ir


def verify_external_data(path: Path) -> frozenset[str]:
    """Checks every reference of a graph to another file; the weights themselves are not read.

    Returns:
        Names of the files, all in the graph's folder, that it takes weights from.

    Raises:
        ArtifactError: a reference leaves the folder, names no file, or reaches past a file's end; or the task file
            beside the graph is not the one that was merged. Every fault is named.
    """
    model = load_graph(path)
    tensors = list(_external_tensors(model))
    faults = sorted({fault for tensor in tensors for fault in _faults(tensor, path.parent)})
    if faults:
        listed = "\n".join(f"  - {fault}" for fault in faults[:10])
        raise ArtifactError(
            f"{path} takes weights from where it must not:\n{listed}\nExport it again, or get an unaltered copy."
        )
    names = frozenset(str(tensor.location) for tensor in tensors)
    _check_task_file(model, path, names)
    return names


def _external_tensors(model: ir.Model) -> Iterator[ir.ExternalTensor]:
    import onnx_ir

    for graph in (*model.graphs(), *model.functions.values()):
        held = [] if isinstance(graph, onnx_ir.Function) else [each.const_value for each in graph.initializers.values()]
        held += [tensor for node in graph for tensor in _attribute_tensors(node)]
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
    if path.is_symlink() or not path.is_file():
        yield f"{name} is missing beside the graph, or is no regular file"
        return
    offset = tensor.offset or 0
    length = tensor.nbytes if tensor.length is None else tensor.length
    if length != tensor.nbytes:
        yield f"{tensor.name} needs {tensor.nbytes} bytes, got a reference to {length}"
    if offset < 0 or offset + length > path.stat().st_size:
        yield f"{tensor.name} should lie at {offset}..{offset + length} of {name}, which ends at {path.stat().st_size}"


def is_plain_name(name: str) -> bool:
    """Whether this is a file name without any folder."""
    return name not in {"", ".", ".."} and not set(name) & {"/", "\\", "\0"}


def _check_task_file(model: ir.Model, path: Path, names: frozenset[str]) -> None:
    task = graph_info(model, path).task
    if task is None:
        return
    for name in sorted(names):
        if name.endswith(".safetensors") and sha256_of(path.parent / name) != task.sha256:
            raise ArtifactError(
                f"{path.parent / name} is not the task file that was merged into {path.name} (its sha256 differs). "
                "Export the task again."
            )
