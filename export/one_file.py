"""One ONNX file for those who want just a file: pixels in, probabilities out, every weight inside.

    pixels, uint8 [B, H, W, 3], RGB   ->   probabilities, float32 [B, C]

What lies between a photograph and those pixels stays outside, because no runtime's resizing is Pillow's: the shorter
side becomes `resize` pixels, then the middle S x S is cropped. The file's metadata says so.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mimi_edge.choices import Backend
from mimi_edge.documents import DocumentKind, parse_document
from mimi_edge.errors import ArtifactError, ConfigError
from mimi_edge.export.answers import softmax
from mimi_edge.export.graph_files import raise_opset
from mimi_edge.export.graphs import EMBEDDED_KEY, INPUT, GraphInfo, load_graph
from mimi_edge.export.manifest import MANIFEST
from mimi_edge.export.parity import OutputCheck, Runnable, check_outputs
from mimi_edge.files import MEGABYTE, whole_file
from mimi_edge.images.preprocessing import Preprocessing, normalise, resizing_in_words
from mimi_edge.tasks.stores import Floats
from mimi_edge.tasks.task import BackboneIdentity
from mimi_edge.texts import canonical_json

if TYPE_CHECKING:
    import onnx_ir as ir

EMBEDDED_FORMAT = 1
PIXELS = "pixels"
PROBABILITIES = "probabilities"
CLASSES_KEY = "classes"
"""Metadata for those who read nothing of ours: a JSON list of the classes' names."""
LARGEST_BYTES = 2**31 - 1
"""One protobuf message, which an ONNX file is, cannot be larger."""
TOLERANCE = 1e-4
"""Largest difference of a probability from the task's own graph, as a share of the largest."""
COMPARED = 8
NAMES = ("The one-file export", "the task's own graph")
ADVICE = "Report this, with the versions that mimi-edge doctor lists."
EMBEDDED_DOCUMENT = DocumentKind(
    "a one-file export's description of itself",
    MEGABYTE,
    "Get an unaltered copy.",
    version_key="format",
    newest=EMBEDDED_FORMAT,
)


@dataclass(frozen=True)
class EmbeddedInfo:
    """What a one-file export says about itself.

    Attributes:
        task: its name.
        classes: in the order of the probabilities.
        preprocessing: of which size and resize are the user's, mean and std are in the file.
        backbone: the network.
        task_sha256: of the task file that went in.
    """

    task: str
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    backbone: BackboneIdentity
    task_sha256: str


@dataclass(frozen=True)
class Embedded:
    """A one-file export on disk.

    Attributes:
        path: of the file.
        size_bytes: of it.
        info: what it says about itself.
        check: how near it is to the task's own graph.
    """

    path: Path
    size_bytes: int
    info: EmbeddedInfo
    check: OutputCheck


@dataclass(frozen=True)
class EmbeddedModel:
    """A one-file export that is loaded and ready.

    Attributes:
        info: what it says about itself.
        session: the `onnxruntime.InferenceSession`.
    """

    info: EmbeddedInfo
    session: Any

    def probabilities(self, pixels: NDArray[np.uint8]) -> Floats:
        """Of pixels, uint8 [B, H, W, 3], RGB -> [B, C]."""
        found: Floats = self.session.run([PROBABILITIES], {PIXELS: np.ascontiguousarray(pixels)})[0]
        return found

    def run(self, images: Floats) -> Floats:
        """Normalised images [B, 3, H, W] -> logits [B, C] up to a constant, as everything else of ours answers."""
        probabilities = self.probabilities(pixels_of(images, self.info.preprocessing))
        return np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))


def pixels_of(images: Floats, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """What `normalise` made images [B, 3, H, W] of: uint8 [B, H, W, 3], the same to the last bit."""
    mean, std = _channels(preprocessing.mean), _channels(preprocessing.std)
    planes = np.clip(np.rint((images * std + mean) * 255), 0, 255).astype(np.uint8)
    pixels: NDArray[np.uint8] = planes.transpose(0, 2, 3, 1)
    return pixels


def embed(graph: Path, out: Path, *, threads: int | None = None) -> Embedded:
    """Writes a task's graph as one file, once it was found to answer what that graph answers.

    Args:
        graph: `<task>.onnx` beside what it refers to.
        out: the file to write; a one-file export that is there is replaced.
        threads: of ONNX Runtime, which compares.

    Raises:
        ArtifactError: the graph is damaged, not ours, or has no task in it.
        ConfigError: the file would be larger than an ONNX file can be, or something else has its name.
        ExportMismatchError: it answers something else; nothing was written.
        MimiEdgeError: ONNX Runtime is not installed.
        OSError: the disk is full; nothing is left behind.
    """
    from mimi_edge.export.graph_files import graph_bytes
    from mimi_edge.export.onnx_runtime import open_graph, open_session

    check_place(out)
    own = open_graph(graph, threads=threads)
    model = load_graph(graph)
    info = _info(own.info, graph)
    check_size(model, graph)
    _put_inside(model, info)
    content = graph_bytes(model)
    with whole_file(out) as beside:
        beside.write_bytes(content)
        made = EmbeddedModel(info, open_session(beside, threads=threads))
        check = _compared(made, own, info.preprocessing)
    return Embedded(out, len(content), info, check)


def embedded_info(model: ir.Model, path: Path) -> EmbeddedInfo | None:
    """What a loaded one-file export says about itself; None of any other graph. `path` is for messages.

    Raises:
        ArtifactError: it is of a newer format, damaged, or refers to other files, which one file has no need of.
    """
    from mimi_edge.export.external_data import external_tensors

    text = model.metadata_props.get(EMBEDDED_KEY)
    if text is None:
        return None
    info = parse_document(text, path, EMBEDDED_DOCUMENT, EmbeddedInfo)
    size = info.preprocessing.size
    shapes = [None if value.shape is None else list(value.shape)[1:] for value in model.graph.inputs]
    if shapes != [[*size, 3]] or any(True for _ in external_tensors(model)):
        raise ArtifactError(
            f"{path} says that it is a one-file export, and it takes weights from other files or something else than "
            f"pixels [B, {size.height}, {size.width}, 3]. Get an unaltered copy."
        )
    return info


def open_embedded(
    path: Path, *, threads: int | None = None, backend: Backend = Backend.ORT_CPU
) -> EmbeddedModel | None:
    """Loads a one-file export; None if the file is any other graph.

    Raises:
        ArtifactError: the file is damaged or no graph, or the runtime refuses it.
        MimiEdgeError: ONNX Runtime is not installed, or lacks the backend.
    """
    from mimi_edge.export.onnx_runtime import check_backend, open_session

    info = embedded_info(load_graph(path), path)
    if info is None:
        return None
    check_backend(backend)
    return EmbeddedModel(info, open_session(path, threads=threads, backend=backend))


def check_place(out: Path) -> None:
    """Makes sure that a one-file export may take a name.

    Raises:
        ConfigError: its folder is a package, or there is something of that name that no one-file export is.
    """
    if (out.parent / MANIFEST).exists():
        raise ConfigError(f"{out.parent} is a package, whose graphs have such names. Choose another folder.")
    if not out.exists():
        return
    try:
        replaceable = out.is_file() and embedded_info(load_graph(out), out) is not None
    except ArtifactError:
        replaceable = False
    if not replaceable:
        raise ConfigError(f"{out} exists and is no one-file export. Remove it, or choose another name.")


def check_size(model: ir.Model, graph: Path) -> None:
    """Makes sure that everything fits into one file, without reading any weights.

    Raises:
        ConfigError: it does not.
    """
    tensors = [value.const_value for value in model.graph.initializers.values()]
    needed = sum(tensor.nbytes for tensor in tensors if tensor is not None) + graph.stat().st_size
    if needed > LARGEST_BYTES:
        raise ConfigError(
            f"{graph.name} with its weights inside would take {needed / MEGABYTE:,.0f} MB, and one ONNX file ends at "
            f"{LARGEST_BYTES / MEGABYTE:,.0f} MB (a protobuf message cannot be larger). Use the package as it is: its "
            "graphs take their weights from files beside them."
        )


def _info(info: GraphInfo, graph: Path) -> EmbeddedInfo:
    if info.task is None:
        raise ArtifactError(f"{graph} is a bare backbone without a task; merge one: mimi-edge export")
    return EmbeddedInfo(info.task.name, info.task.classes, info.preprocessing, info.backbone, info.task.sha256)


def _put_inside(model: ir.Model, info: EmbeddedInfo) -> None:
    """Puts weights, normalisation and softmax into the graph, and says what it is then."""
    from onnx_ir.external_data import load_to_model

    load_to_model(model)
    raise_opset(model)
    _take_pixels(model.graph, info.preprocessing)
    _give_probabilities(model.graph)
    model.graph.name = info.task
    model.doc_string = _in_words(info)
    model.metadata_props.clear()
    model.metadata_props[EMBEDDED_KEY] = canonical_json(
        {"format": EMBEDDED_FORMAT} | asdict(info) | {"preprocessing": info.preprocessing.document()}
    )
    model.metadata_props[CLASSES_KEY] = json.dumps(info.classes, ensure_ascii=False, allow_nan=False)


def _take_pixels(graph: ir.Graph, preprocessing: Preprocessing) -> None:
    """Computes the normalised images, as `normalise` does, step by step."""
    import onnx_ir

    from mimi_edge.export.passes.surgery import new_constant, new_node

    (images,) = graph.inputs
    size = preprocessing.size
    shape = onnx_ir.Shape(["batch", *size, 3])
    pixels = onnx_ir.Value(name=PIXELS, shape=shape, type=onnx_ir.TensorType(onnx_ir.DataType.UINT8))
    nodes = [new_node("Transpose", [pixels], f"{PIXELS}.planes", perm=(0, 3, 1, 2))]
    nodes.append(new_node("Cast", nodes[-1].outputs, f"{PIXELS}.fp32", to=int(onnx_ir.DataType.FLOAT)))
    steps = {
        "range": ("Div", np.asarray(255, np.float32)),
        "mean": ("Sub", _channels(preprocessing.mean)),
        "std": ("Div", _channels(preprocessing.std)),
    }
    for name, (operator, values) in steps.items():
        given = new_constant(graph, f"{PIXELS}.{name}", values)
        nodes.append(new_node(operator, [nodes[-1].outputs[0], given], f"{PIXELS}.less.{name}"))
    onnx_ir.convenience.replace_all_uses_with(images, nodes[-1].outputs[0])
    graph.inputs[0] = pixels
    graph.insert_before(graph[0], nodes)
    nodes[-1].outputs[0].name = INPUT


def _give_probabilities(graph: ir.Graph) -> None:
    import onnx_ir

    logits = graph.outputs[0]
    value = onnx_ir.Value(name=PROBABILITIES, shape=logits.shape, type=onnx_ir.TensorType(onnx_ir.DataType.FLOAT))
    graph.append(onnx_ir.node("Softmax", [logits], {"axis": -1}, name=PROBABILITIES, outputs=[value]))
    graph.outputs[0] = value


def _in_words(info: EmbeddedInfo) -> str:
    given = info.preprocessing
    size = given.size
    return (
        f"Task {info.task} on {info.backbone.name}. Input {PIXELS}: uint8 [B, {size.height}, {size.width}, 3], RGB, "
        f"0 to 255. Make them of an image by resizing {resizing_in_words(given)} pixels "
        f"({given.interpolation}, with antialiasing, as Pillow does) and cropping the middle {size.in_words}; nothing "
        f"else, normalisation is inside. Output {PROBABILITIES}: float32 [B, {len(info.classes)}], in the order of the "
        f"metadata property {CLASSES_KEY}, a JSON list."
    )


@dataclass(frozen=True)
class _Probabilities:
    """Normalised images -> probabilities of a one-file export."""

    model: EmbeddedModel

    def run(self, images: Floats) -> Floats:
        return self.model.probabilities(pixels_of(images, self.model.info.preprocessing))


def _compared(made: EmbeddedModel, own: Runnable, preprocessing: Preprocessing) -> OutputCheck:
    """Holds the file against the task's own graph, on random pixels."""
    size = preprocessing.size
    pixels = np.random.default_rng(0).integers(0, 256, (COMPARED, *size, 3), np.uint8)
    images = normalise(pixels, preprocessing)
    return check_outputs(_Probabilities(made), softmax(own.run(images)), images, TOLERANCE, names=NAMES, advice=ADVICE)


def _channels(values: tuple[float, float, float]) -> Floats:
    return np.asarray(values, np.float32).reshape(1, 3, 1, 1)
