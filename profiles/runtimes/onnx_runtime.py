"""ONNX Runtime under measurement: graphs, bare or merged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimi_edge.errors import ConfigError
from mimi_edge.profiles.runtimes.artefact import BACKBONE, GRAPH, TASK, Artefact, Opening, Run, Wanted
from mimi_edge.runtimes import GRAPH_BACKENDS, PROVIDERS, names, runtime_of
from mimi_edge.tasks.files import SUFFIX as TASK_SUFFIX
from mimi_edge.tasks.files import read_task
from mimi_edge.tasks.stores import Floats
from mimi_edge.tasks.task import Task

if TYPE_CHECKING:
    from mimi_edge.export.external_data import VerifiedGraph
    from mimi_edge.export.graphs import GraphInfo
    from mimi_edge.export.open_packages import Package

LEAST_GRAPH = bytes.fromhex(
    "08083a440a110a01780a017812017922064d61744d756c12056c656173745a130a0178120e0a0c080112080a0208020a020802"
    "62130a0179120e0a0c080112080a0208020a02080242040a001011"
)
"""The smallest graph with a matrix product, x [2, 2] -> x @ x; making it here would load onnx."""


def check(wanted: Wanted) -> None:
    """Makes sure that it is installed, and was built with what the backend needs."""
    from mimi_edge.export.onnx_runtime import check_backend

    check_backend(wanted.backend)


def of_package(package: Package, tasks: Sequence[str], wanted: Wanted) -> Iterator[Artefact]:
    """The bare backbone's graph, and the tasks' merged ones."""
    yield _packaged(package, None, wanted)
    for name in tasks:
        yield _packaged(package, name, wanted)


def of_task(package: Package, task: str, wanted: Wanted) -> Artefact:
    """The merged graph of one task of a package."""
    return _packaged(package, task, wanted)


def of_graph(path: Path, wanted: Wanted) -> Artefact:
    """A graph by itself.

    Raises:
        ArtifactError: it is damaged.
    """
    from mimi_edge.export.external_data import verify_graph
    from mimi_edge.export.open_packages import opened_graph

    with opened_graph(path):
        return _graph(verify_graph(path), None, wanted)


def require_graphs(path: Path, wanted: Wanted) -> None:
    """Makes sure that the backend runs graphs.

    Raises:
        ConfigError: it does not.
    """
    if wanted.backend not in GRAPH_BACKENDS:
        raise ConfigError(
            f"{path} is a graph, and --backend {wanted.backend.value} runs none. "
            f"Choose {names(GRAPH_BACKENDS)}, or give its package."
        )


def like_in_package(package: Package, task: str | None) -> Artefact:
    """As ONNX Runtime on the CPU has it; what the other runtimes measure of a package is described by its graphs."""
    return _packaged(package, task, Wanted())


def load(opening: Opening) -> None:
    """Runs one multiplication, so that the provider has its libraries and its context."""
    from mimi_edge.export import onnx_runtime

    backend = opening.backend
    onnx_runtime.check_backend(backend)
    onnxruntime = import_module("onnxruntime")
    if runtime_of(backend).needs_gpu and hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()
    providers = list(PROVIDERS[backend])
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = onnx_runtime.ERRORS_ONLY, 1
    session = onnxruntime.InferenceSession(LEAST_GRAPH, options, providers=providers)
    session.run(None, {"x": import_module("numpy").zeros((2, 2), "float32")})


@contextmanager
def opened(opening: Opening) -> Iterator[Run]:
    """A session, without the checks of `OnnxModel.run`: they are some microseconds that a plain loop does not take."""
    from mimi_edge.export.graphs import INPUT
    from mimi_edge.export.onnx_runtime import open_graph, open_unchanged

    given: Mapping[str, Any] = {"threads": opening.threads, "backend": opening.backend}
    if opening.graph_sha256 is None:
        session = open_graph(opening.file, **given).session
    else:
        session = open_unchanged(opening.file, opening.graph_sha256, **given)
    outputs = [session.get_outputs()[0].name]

    def run(images: Floats) -> Floats:
        answer: Floats = session.run(outputs, {INPUT: images})[0]
        return answer

    yield run


def _packaged(package: Package, name: str | None, wanted: Wanted) -> Artefact:
    path = package.backbone_graph if name is None else package.task(name).graph
    kind, called = (BACKBONE, BACKBONE) if name is None else (TASK, name)
    task = None if name is None else package.task_file(name).task
    made = _graph(package.graph(path), task, wanted)
    return replace(made, kind=kind, name=called, origin=str(package.folder))


def _graph(verified: VerifiedGraph, task: Task | None, wanted: Wanted) -> Artefact:
    """A graph, with the task in it where that was read already."""
    path, info = verified.path, verified.info
    files = [path.parent / name for name in sorted(verified.files)]
    task_file = next((file for file in files if file.suffix == TASK_SUFFIX), None)
    if task is None and task_file is not None:
        task = read_task(task_file)
    return Artefact(
        name=path.name,
        kind=GRAPH,
        opening=Opening(wanted.backend, path=path, threads=wanted.threads, graph_sha256=verified.graph.sha256),
        files=(path, *files),
        input_size=info.input_size,
        task=None if info.task is None else info.task.name,
        task_file=task_file,
        preprocessing=info.preprocessing,
        neurons=_neurons(info),
        graph=verified,
        stored_accuracy={} if task is None else dict(task.header.accuracy),
        origin=str(path.parent),
        backbone=info.backbone.name,
    )


def _neurons(info: GraphInfo) -> dict[str, int] | None:
    """Of every site; 0 where a site was emptied."""
    if info.task is None:
        return None
    return {site.name: info.task.neurons.get(site.name, 0) for site in info.sites}
