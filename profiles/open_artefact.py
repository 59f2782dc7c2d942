"""How one artefact is opened in a process of its own: what that process is told, and what it does then.

A process first loads the runtime alone, so that what the runtime takes by itself is known, and then the artefact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from mimi_edge.choices import Backend
from mimi_edge.errors import ConfigError
from mimi_edge.tasks.stores import Floats

GRAPH, ENGINE, TORCH = "graph", "engine", "torch"
WAYS = (GRAPH, ENGINE, TORCH)

Run = Callable[[Floats], Floats]
"""Normalised images, float32 [B, 3, S, S], to outputs [B, ...], both in the host's memory."""


@dataclass(frozen=True)
class Opening:
    """What has to be known to open an artefact.

    Attributes:
        how: `graph`, `engine` or `torch`.
        backend: that runs it.
        path: of the graph, the engine, or with torch the task file; None for torch's bare backbone.
        threads: of the CPU's part, None leaves it to the runtime.
        package: folder of the package whose task an engine answers for; None for an engine that is asked alone.
        task: name of that task.
        trust: take an engine that is on no shelf.
        backbone: for torch, its name.
        weights: for torch, where the backbone's are.
    """

    how: str
    backend: Backend
    path: Path | None = None
    threads: int | None = None
    package: Path | None = None
    task: str | None = None
    trust: bool = False
    backbone: str | None = None
    weights: str | None = None

    def __post_init__(self) -> None:
        if self.how not in WAYS or (self.path is None) != (self.how == TORCH and self.task is None):
            raise ConfigError(f"This says not how an artefact is opened: {self}.")

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            name: str(value) if isinstance(value, Path) else value.value if isinstance(value, Backend) else value
            for name, value in asdict(self).items()
        }

    @staticmethod
    def of(document: Mapping[str, Any]) -> Opening:
        """From `document`."""
        paths = {name: Path(document[name]) for name in ("path", "package") if document[name] is not None}
        return Opening(**{**document, **paths, "backend": Backend(document["backend"])})


def load_runtime(opening: Opening) -> None:
    """Loads what runs the artefact, and makes its context on the device; the artefact itself is not touched.

    Raises:
        MimiEdgeError: the runtime is missing or does not work here.
    """
    if opening.how == GRAPH:
        _load_onnx_runtime(opening.backend)
    elif opening.how == ENGINE:
        from mimi_edge.export.engines.running.cuda import open_cuda
        from mimi_edge.export.engines.tensorrt.bindings import load_bindings

        load_bindings(opening.backend)
        open_cuda()
    else:
        _torch().load_torch(opening.threads)


@contextmanager
def opened(opening: Opening) -> Iterator[Run]:
    """Opens an artefact, ready to answer, until the block ends.

    Raises:
        MimiEdgeError: it cannot be opened here.
    """
    with ExitStack() as stack:
        if opening.how == GRAPH:
            yield _graph(opening)
        elif opening.how == ENGINE:
            yield stack.enter_context(_engine(opening))
        else:
            yield _torch().torch_answer(
                opening.backbone, opening.weights, None if opening.task is None else opening.path
            )


def _load_onnx_runtime(backend: Backend) -> None:
    """Runs one multiplication, so that the provider has its libraries and its context."""
    from mimi_edge.export import external_data, onnx_runtime

    onnx_runtime.check_backend(backend)
    onnx, onnxruntime = import_module("onnx"), import_module("onnxruntime")
    import_module("onnx_ir")
    assert external_data  # noqa: S101  (loaded here, because it is no part of the artefact either)
    if backend is not Backend.ORT_CPU and hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()
    square = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2, 2]) for name in "xy"]
    node = onnx.helper.make_node("MatMul", ["x", "x"], ["y"])
    graph = onnx.helper.make_graph([node], "least", square[:1], square[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    providers = list(onnx_runtime.PROVIDERS[backend])
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = onnx_runtime.ERRORS_ONLY, 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=providers)
    session.run(None, {"x": import_module("numpy").zeros((2, 2), "float32")})


def _graph(opening: Opening) -> Run:
    from mimi_edge.export.graphs import INPUT
    from mimi_edge.export.onnx_runtime import open_graph

    if opening.path is None:
        raise ConfigError("A graph has a path.")
    session = open_graph(opening.path, threads=opening.threads, backend=opening.backend).session
    outputs = [session.get_outputs()[0].name]

    # Without the checks of `OnnxModel.run`: they are some microseconds that a plain loop does not take.
    def run(images: Floats) -> Floats:
        answer: Floats = session.run(outputs, {INPUT: images})[0]
        return answer

    return run


@contextmanager
def _engine(opening: Opening) -> Iterator[Run]:
    from mimi_edge.export.engines.running.loaded import opened as opened_engine
    from mimi_edge.export.engines.running.one_task import EngineRunner
    from mimi_edge.export.engines.shelf.shelf import open_engine
    from mimi_edge.export.graphs import LOGITS
    from mimi_edge.export.packages import read_package

    if opening.path is None:
        raise ConfigError("An engine has a path.")
    if opening.package is not None and opening.task is not None:
        task = opening.task
        package = read_package(opening.package, [task], verify=False)
        with opened_engine(opening.path, package, [task], trust=opening.trust) as answer:
            yield lambda images: answer(task, images)[LOGITS]
        return
    from mimi_edge.export.engines.running.cuda import open_cuda
    from mimi_edge.export.engines.running.executor import Plan
    from mimi_edge.export.engines.tensorrt.bindings import load_bindings

    content, sidecar = open_engine(opening.path, trust=opening.trust)
    plan = Plan(load_bindings(sidecar.backend), content, open_cuda(), name=opening.path.name)
    with EngineRunner(plan) as runner:
        yield runner.run


def _torch() -> Any:
    """The one module of training that answers for a task file; it needs torch."""
    return import_module("mimi_edge.training.torch_answers")
