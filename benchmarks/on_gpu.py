"""Graphs as TensorRT engines on the GPU that is here, and their peers: what the benchmarks time."""

from __future__ import annotations

import atexit
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import onnx_ir as ir

from mimi_edge.choices import Backend, Precision
from mimi_edge.export.engine_graphs import engine_graph
from mimi_edge.export.engines.building.build import BuiltEngine, build_engine
from mimi_edge.export.engines.building.requests import BatchRange, BuildRequest
from mimi_edge.export.engines.building.timing_caches import timing_cache_file
from mimi_edge.export.engines.running.cuda import Cuda, open_cuda
from mimi_edge.export.engines.running.executor import Plan
from mimi_edge.export.engines.running.one_task import EngineRunner
from mimi_edge.export.engines.tensorrt.bindings import Bindings, load_bindings
from mimi_edge.export.graphs import LOGITS, load_graph
from mimi_edge.export.onnx_runtime import open_graph
from mimi_edge.export.passes.fold_task_weights import fold_task_weights
from mimi_edge.export.precision.half import to_half
from mimi_edge.profiles.latency import Runnable
from mimi_edge.tasks.stores import Floats

UNTIL_THE_END = ExitStack()
atexit.register(UNTIL_THE_END.close)


class Gpu:
    """TensorRT and the GPU, with everything that is loaded on it."""

    def __init__(self, stack: ExitStack, backend: Backend | None = None) -> None:
        self.bindings: Bindings = load_bindings(backend)
        self.cuda: Cuda = open_cuda()
        self._stack = stack

    @property
    def description(self) -> str:
        """Device and versions, for a table's heading."""
        device = self.cuda.device
        return f"{device.name}, driver for CUDA {device.driver_cuda}, {self.bindings.name}"

    def build(
        self,
        model: ir.Model,
        folder: Path,
        ranges: Mapping[str, BatchRange],
        *,
        refittable: frozenset[str] = frozenset(),
        cache: Path | None = None,
        layer_details: bool = False,
    ) -> BuiltEngine:
        """An engine of a graph whose weights lie in the folder."""
        with engine_graph(model, folder) as path:
            request = BuildRequest(path, ranges=ranges, refittable=refittable, layer_details=layer_details)
            return build_engine(self.bindings, request, timing_cache=cache)

    def keep(self, runner: Any) -> Any:
        """Opens a runner until the stack is closed."""
        return self._stack.enter_context(runner)

    def runner(self, plan: Any) -> EngineRunner:
        """An engine with one task, or a bare one, ready."""
        opened: EngineRunner = self.keep(EngineRunner(Plan(self.bindings, plan, self.cuda)))
        return opened

    @property
    def timing_cache(self) -> Path:
        """The one that `mimi-edge export` uses too."""
        return timing_cache_file(self.bindings, self.cuda.device.name)


def launched(runner: Any, images: Floats) -> Runnable:
    """Runs an engine on images that are on the device already, and waits for it: no copies."""
    batch = runner.load(images)

    def run() -> None:
        runner.launch(batch)
        runner.executor.wait()

    return run


def on_tensorrt(graph: Path, images: Floats, backend: Backend) -> Runnable:
    """A merged graph as it is, as an fp16 engine for this batch."""
    gpu = Gpu(UNTIL_THE_END, backend)
    model = load_graph(graph)
    fold_task_weights(model)
    to_half(model, Precision.FP16)
    built = gpu.build(model, graph.parent, {"batch": sizes_of([len(images)])}, cache=gpu.timing_cache)
    return launched(gpu.runner(built.plan), images)


def bare(graph: Path) -> ir.Model:
    """A backbone's graph whose features are called what runners look for."""
    model = load_graph(graph)
    model.graph.outputs[0].name = LOGITS
    return model


def built_as_trtexec_would(gpu: Gpu, graph: Path, ranges: Mapping[str, BatchRange]) -> bytes | None:
    """A plan of an fp32 graph with the builder flag for fp16, types chosen by TensorRT; None where that is gone."""
    bindings = gpu.bindings
    if not bindings.has_flag("FP16"):
        return None
    builder = bindings.builder()
    network = builder.create_network(0)
    with engine_graph(bare(graph), graph.parent) as path:
        parser = bindings.parse(network, path)
    config = builder.create_builder_config()
    config.set_flag(bindings.flag("FP16"))
    profile = builder.create_optimization_profile()
    images = network.get_input(0)
    sizes = next(iter(ranges.values()))
    rest = tuple(int(size) for size in images.shape)[1:]
    profile.set_shape(images.name, *((size, *rest) for size in (sizes.smallest, sizes.best, sizes.largest)))
    config.add_optimization_profile(profile)
    plan = bindings.build(builder, network, config)
    del parser
    return None if plan is None else bytes(plan)


def peers(graph: Path, backbone: str, images: Floats, precision: Precision, seed: int) -> dict[str, Runnable]:
    """What else runs the bare backbone here: torch.compile and ONNX Runtime's CUDA provider, where present."""
    found: dict[str, Runnable] = {}
    for name, make in (("torch.compile", _compiled), ("ONNX Runtime CUDA", _onnx_cuda)):
        try:
            found[name] = make(graph, backbone, images, precision, seed)
        except Exception as error:  # noqa: BLE001  a peer that is not there is named, and the rest goes on
            print(f"left out {name}: {str(error).splitlines()[0] if str(error) else type(error).__name__}")
    return found


def _onnx_cuda(graph: Path, _backbone: str, images: Floats, _precision: Precision, _seed: int) -> Runnable:
    return partial(open_graph(graph, backend=Backend.ORT_CUDA).run, images)


def _compiled(_graph: Path, backbone: str, images: Floats, precision: Precision, seed: int) -> Runnable:
    import torch

    from mimi_edge.training.backbones import load_backbone

    dtype = {Precision.FP16: torch.float16, Precision.BF16: torch.bfloat16}.get(precision, torch.float32)
    module = load_backbone(backbone, "random", seed=seed).module.to("cuda", dtype).eval()
    compiled = torch.compile(module, mode="max-autotune")
    batch = torch.from_numpy(images).to("cuda", dtype)

    def run() -> None:
        with torch.no_grad():
            compiled(batch)
        torch.cuda.synchronize()

    run()
    return run


def sizes_of(batches: Sequence[int]) -> BatchRange:
    """A profile for all these batches, tuned for the first."""
    return BatchRange(min(batches), batches[0], max(batches))
