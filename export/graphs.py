"""What a graph of ours says about itself: its backbone, its sites, its preprocessing and, once merged, its task.

Every graph carries one metadata property, `mimi_edge`, a JSON text with sorted keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from mimi_edge.documents import DocumentKind, parse_document, read_bytes
from mimi_edge.errors import ArtifactError
from mimi_edge.files import sha256_of_bytes
from mimi_edge.images.image_size import ImageSize
from mimi_edge.images.preprocessing import Preprocessing
from mimi_edge.methods.network import Network
from mimi_edge.sites import Site
from mimi_edge.tasks.task import MIMI, BackboneIdentity
from mimi_edge.texts import canonical_json, cut

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

GRAPH_FORMAT = 1
OPSET = 20
METADATA_KEY = "mimi_edge"
EMBEDDED_KEY = "mimi_edge_embedded"
"""Of a one-file export instead, which is no graph to merge into or to build from."""
BACKBONE_GRAPH = "backbone.onnx"
BACKBONE_WEIGHTS = "backbone.weights"
BACKBONE_FILES = (BACKBONE_GRAPH, BACKBONE_WEIGHTS)
GRAPH_SUFFIX = ".onnx"
INPUT = "images"
FEATURES = "features"
LOGITS = "logits"
LARGEST_GRAPH_BYTES = 2**31 - 1
"""What protobuf can hold; our own have less, their weights lie in other files."""
KIND = DocumentKind(
    "what mimi-edge's graphs say of themselves",
    largest_bytes=16_000_000,
    mend="Make the graph with: mimi-edge export --format onnx",
    version_key="format",
    newest=GRAPH_FORMAT,
    open=True,
)


class Kept(str, Enum):
    """How a parameter of torch lies in the graph.

    As it is, as its transpose, gathered into a bias of attention, as the first or the last third of a bias of queries,
    keys and values, or as e to the power of it.
    """

    AS_IT_IS = "as it is"
    TRANSPOSED = "transposed"
    GATHERED = "gathered"
    FIRST_THIRD = "first third"
    LAST_THIRD = "last third"
    POWER = "power of e"


@dataclass(frozen=True)
class KeptParameter:
    """Where a graph has a parameter of the backbone.

    Attributes:
        initializer: its name in the graph.
        kept: how it lies there.
        shape: in torch.
    """

    initializer: str
    kept: Kept
    shape: tuple[int, ...]


@dataclass(frozen=True)
class GraphTask:
    """The task inside a merged graph.

    Attributes:
        name: of the task.
        classes: names in the order of the logits.
        neurons: N at each site that has an adapter.
        store: number format of the weights in the task file.
        sha256: of the task file that the graph takes its weights from.
        method: that adapted the backbone.
    """

    name: str
    classes: tuple[str, ...]
    neurons: Mapping[str, int]
    store: str
    sha256: str
    method: str = MIMI


@dataclass(frozen=True)
class GraphInfo:
    """What a graph is.

    Attributes:
        backbone: the network it was exported from.
        preprocessing: what happens to an image before the graph sees it.
        sites: where adapters may go; a site's name is also the name of its value [.., M] in the graph.
        task: what was merged in, None for a bare backbone.
        parameters: where a bare backbone has its parameters, by torch's names; None in graphs of earlier releases, and
            in merged ones.
        takes_tokens: names of attention sub-layers that can be given more tokens to look at.
        takes_prompts: whether tokens can go through all blocks with the image's.
    """

    backbone: BackboneIdentity
    preprocessing: Preprocessing
    sites: tuple[Site, ...]
    task: GraphTask | None = None
    parameters: Mapping[str, KeptParameter] | None = None
    takes_tokens: tuple[str, ...] = ()
    takes_prompts: bool = False

    @cached_property
    def network(self) -> Network:
        """The backbone as methods see it."""
        return Network(
            sites=self.sites,
            features=self.backbone.features,
            parameters={name: kept.shape for name, kept in (self.parameters or {}).items()},
            input_size=self.input_size,
            takes_tokens=self.takes_tokens,
            takes_prompts=self.takes_prompts,
        )

    @property
    def input_size(self) -> ImageSize:
        """H and W of the images [B, 3, H, W] that the graph takes."""
        return self.preprocessing.size


@dataclass(frozen=True)
class BackboneGraph:
    """A bare backbone on disk: `backbone.onnx` ([B, 3, H, W] -> features [B, F]) and `backbone.weights` in one folder.

    Attributes:
        folder: that holds both.
        info: what the graph says about itself.
    """

    folder: Path
    info: GraphInfo

    @property
    def path(self) -> Path:
        """Of the graph."""
        return self.folder / BACKBONE_GRAPH

    @property
    def weights(self) -> Path:
        """Of the file that holds the weights."""
        return self.folder / BACKBONE_WEIGHTS


@dataclass(frozen=True, eq=False)
class GraphFile:
    """A graph's file that was read, once: whoever checks, counts or changes the graph takes what was read.

    Attributes:
        path: of the file.
        proto: what it holds; nobody changes it.
        sha256: hex, of the file.
    """

    path: Path
    proto: onnx.ModelProto = field(repr=False)
    sha256: str

    @cached_property
    def info(self) -> GraphInfo:
        """What the graph says about itself.

        Raises:
            ArtifactError: it is of a newer format, or was not made by mimi-edge.
        """
        return _stated_info({entry.key: entry.value for entry in self.proto.metadata_props}, self.path)

    def model(self) -> ir.Model:
        """The graph to look at or to change; each call gives another.

        Raises:
            ArtifactError: the graph does not fit together.
        """
        import onnx_ir
        from onnx_ir.external_data import set_base_dir

        with _whole(self.path):
            model = onnx_ir.from_proto(self.proto)
            set_base_dir(model.graph, self.path.parent)
            return model


def read_backbone_graph(folder: Path) -> BackboneGraph:
    """Opens a folder that `export_backbone` made.

    Raises:
        ArtifactError: there is no backbone graph, or it is not one of ours.
    """
    path = folder / BACKBONE_GRAPH
    info = read_graph_info(path)
    if info.task is not None:
        raise ArtifactError(f"{path} is task {info.task.name} merged into a backbone; expected the bare backbone.")
    return BackboneGraph(folder, info)


def open_graph_file(path: Path) -> GraphFile:
    """Reads a graph's file, once; the weights that lie in other files are not read.

    Raises:
        ArtifactError: the file cannot be read or is no ONNX graph.
    """
    with _whole(path):
        return graph_file(path, read_bytes(path, LARGEST_GRAPH_BYTES))


def graph_file(path: Path, content: bytes) -> GraphFile:
    """The graph's file at a path, by its content, which somebody has just read or written.

    Raises:
        ArtifactError: it is no ONNX graph.
    """
    import onnx

    with _whole(path):
        return GraphFile(path, onnx.load_from_string(content), sha256_of_bytes(content))


def load_graph(path: Path) -> ir.Model:
    """A graph of a file that nothing else is asked of; as of `open_graph_file`."""
    return open_graph_file(path).model()


@contextmanager
def _whole(path: Path) -> Iterator[None]:
    """What goes wrong in the block is that a file cannot be read or is no ONNX graph."""
    try:
        yield
    except OSError as error:
        raise ArtifactError(f"Cannot read {path}: {error.strerror}. Check the path.") from error
    except Exception as error:  # protobuf and onnx_ir raise many kinds for a damaged file
        raise ArtifactError(f"{path} is not a whole ONNX graph ({cut(str(error), 300)}). Export it again.") from error


def read_graph_info(path: Path) -> GraphInfo:
    """What the graph in a file is; takes milliseconds, weights are not read.

    Raises:
        ArtifactError: it is damaged, of a newer format, or was not made by mimi-edge.
    """
    return open_graph_file(path).info


def graph_info(model: ir.Model, path: Path) -> GraphInfo:
    """What a loaded graph is; `path` is for messages.

    Raises:
        ArtifactError: it is of a newer format, or was not made by mimi-edge.
    """
    return _stated_info(model.metadata_props, path)


def _stated_info(properties: Mapping[str, str], path: Path) -> GraphInfo:
    if EMBEDDED_KEY in properties:
        raise ArtifactError(
            f"{path} is a one-file export (pixels in, probabilities out): mimi-edge predict and every ONNX runtime "
            "take it, nothing else of mimi-edge does. Give the package it was made from."
        )
    if METADATA_KEY not in properties:
        raise ArtifactError(
            f"{path} does not say what it is: it has no metadata property {METADATA_KEY!r}. Either mimi-edge did not "
            "make it, or a tool that simplified, sanitised or converted it dropped its metadata. Give the graph as "
            "mimi-edge export wrote it, or run this one without mimi-edge: docs/other-languages.md."
        )
    document = parse_document(properties[METADATA_KEY], path, KIND, _Document)
    sites = tuple(Site(name, width, tokens) for name, width, tokens in document.sites)
    parameters = None
    if document.parameters is not None:
        parameters = {name: KeptParameter(there, kept, shape) for name, there, kept, shape in document.parameters}
    return GraphInfo(
        document.backbone,
        document.preprocessing,
        sites,
        document.task,
        parameters,
        document.takes_tokens,
        document.takes_prompts,
    )


def describe(model: ir.Model, info: GraphInfo) -> None:
    """Writes what a graph is into its metadata, replacing what was there."""
    document = {
        "format": GRAPH_FORMAT,
        "backbone": asdict(info.backbone),
        "preprocessing": info.preprocessing.document(),
        "sites": [[site.name, site.width, site.tokens] for site in info.sites],
        "task": None if info.task is None else asdict(info.task),
    }
    if info.task is None and info.parameters is not None:
        document |= {
            # A list, because their order tells the first layer of a module from the last.
            "parameters": [
                [name, kept.initializer, kept.kept.value, kept.shape] for name, kept in info.parameters.items()
            ],
            "takes_tokens": info.takes_tokens,
            "takes_prompts": info.takes_prompts,
        }
    model.metadata_props.clear()
    model.metadata_props[METADATA_KEY] = canonical_json(document)


@dataclass(frozen=True)
class _Document:
    """What `describe` writes."""

    backbone: BackboneIdentity
    preprocessing: Preprocessing
    sites: tuple[tuple[str, int, int], ...]
    task: GraphTask | None
    parameters: tuple[tuple[str, str, Kept, tuple[int, ...]], ...] | None = None
    takes_tokens: tuple[str, ...] = ()
    takes_prompts: bool = False
