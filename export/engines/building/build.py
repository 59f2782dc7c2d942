"""Builds an engine from a graph: strongly typed, so a layer computes in the data type that the graph says."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Event, Thread
from typing import Any

from mimi_edge.errors import ConfigError, EngineBuildError, StoppedError
from mimi_edge.events import Listener, silent
from mimi_edge.export.engines.building import timing_caches
from mimi_edge.export.engines.building.progress import BuildProgress
from mimi_edge.export.engines.building.requests import BuildRequest
from mimi_edge.export.engines.building.timing_caches import CacheUse, TimingCache
from mimi_edge.export.engines.tensorrt.bindings import Bindings
from mimi_edge.export.engines.tensorrt.messages import explain_build
from mimi_edge.export.engines.tensorrt.tensors import EngineTensor
from mimi_edge.export.graphs import load_graph

LISTED = 10
STARTING_SECONDS = 1.0


@dataclass(frozen=True)
class BuiltEngine:
    """An engine as TensorRT gave it, in host memory once.

    Attributes:
        plan: its bytes; writing them copies nothing.
        tensors: inputs and outputs, in the network's order.
        layers: names of the network's layers, before TensorRT fused them.
        seconds: that the build took.
        timing_cache: what a timing cache did for it.
        warnings: what TensorRT warned of, each once.
    """

    plan: memoryview
    tensors: tuple[EngineTensor, ...]
    layers: tuple[str, ...]
    seconds: float
    timing_cache: CacheUse
    warnings: tuple[str, ...]

    @property
    def size_bytes(self) -> int:
        """Of the plan."""
        return self.plan.nbytes

    @cached_property
    def sha256(self) -> str:
        """Of the plan, in hex."""
        return hashlib.sha256(self.plan).hexdigest()

    def write(self, path: Path) -> None:
        """Writes the plan to a file, which is neither whole at once nor synced: the shelf sees to that.

        Raises:
            OSError: the disk is full.
        """
        with path.open("wb") as opened:
            opened.write(self.plan)


def build_engine(
    bindings: Bindings,
    request: BuildRequest,
    *,
    timing_cache: Path | None = None,
    listener: Listener = silent,
    should_stop: Callable[[], bool] = lambda: False,
) -> BuiltEngine:
    """Builds an engine; nothing is written but the timing cache.

    The work is done in a thread of its own, because Ctrl-C would raise in whatever Python code TensorRT calls, and C++
    cannot take that. It builds for CUDA's first device, unless the request names compute capabilities.

    Args:
        bindings: of TensorRT.
        request: what to build.
        timing_cache: file of `timing_cache_file`; None builds without.
        listener: hears how far it is.
        should_stop: asked after each step of the build.

    Raises:
        ConfigError: a dimension of the graph has no range, or an output does not exist.
        EngineBuildError: TensorRT does not take the graph, or has too little memory.
        StoppedError: `should_stop` said so.
        MimiEdgeError: there is no driver, or it is too old.
        KeyboardInterrupt: Ctrl-C; the build was stopped.
    """
    progress = BuildProgress(f"Building {request.label}", listener, should_stop)
    return _beside(lambda: _build(bindings, request, timing_cache, progress), progress)


def _beside(work: Callable[[], BuiltEngine], progress: BuildProgress) -> BuiltEngine:
    """Runs a build in a thread and waits for its end, also after Ctrl-C, which asks it to stop."""
    results: list[BuiltEngine | BaseException] = []
    begun, finished = Event(), Event()

    def run() -> None:
        begun.set()
        try:
            if not progress.stopped:
                results.append(work())
        except BaseException as error:  # noqa: BLE001  it is raised in the thread that waits
            results.append(error)
        finally:
            finished.set()

    # Waiting for an event and not for the thread: Python 3.11 takes an interrupted join for the end of the thread.
    try:
        Thread(target=run, name="build", daemon=True).start()
        finished.wait()
    except KeyboardInterrupt:
        progress.ask_to_stop()
        # It may have come before the thread was there; one that comes now finds that it is to stop.
        if begun.wait(STARTING_SECONDS):
            finished.wait()
        raise
    if isinstance(results[0], BaseException):
        raise results[0]
    return results[0]


def _build(bindings: Bindings, request: BuildRequest, cache_file: Path | None, progress: BuildProgress) -> BuiltEngine:
    started = time.perf_counter()
    with bindings.listening() as log:
        progress.begin()
        builder = bindings.builder()
        network = bindings.network(builder)
        # The parser owns the weights until the plan is there.
        parser = bindings.parse(network, request.graph)
        _mark_outputs(network, request.marked)
        config = _config(bindings, builder, network, request)
        cache = timing_caches.attach(bindings, config, cache_file, progress.listener) if cache_file else None
        monitor = bindings.progress_monitor(progress)
        config.progress_monitor = monitor
        plan = bindings.build(builder, network, config)
        del parser
        if progress.raised:
            raise progress.raised
        if plan is None and progress.stopped:
            raise StoppedError(
                f"Stopped while building {request.label}. Nothing was replaced; the same command starts again."
            )
        if plan is None:
            raise explain_build(log, request.label)
        use = _kept(bindings, config, cache, cache_file, progress.listener)
        progress.end()
    return BuiltEngine(
        plan=memoryview(plan).cast("B"),
        tensors=_tensors(bindings, network),
        layers=tuple(network.get_layer(index).name for index in range(network.num_layers)),
        seconds=time.perf_counter() - started,
        timing_cache=use,
        warnings=log.warnings,
    )


def _kept(
    bindings: Bindings, config: Any, cache: TimingCache | None, cache_file: Path | None, listener: Listener
) -> CacheUse:
    if cache is not None:
        return timing_caches.keep(bindings, config, cache, listener)
    return CacheUse.UNWANTED if cache_file is None else CacheUse.UNSUPPORTED


def _config(bindings: Bindings, builder: Any, network: Any, request: BuildRequest) -> Any:
    config = builder.create_builder_config()
    bindings.keep_fp32_exact(config)
    bindings.allow_capture(config)
    if profile := _profile(builder, network, request):
        config.add_optimization_profile(profile)
    if request.refittable:
        config.set_flag(bindings.flag("REFIT_INDIVIDUAL"))
        _mark_refittable(bindings, network, request)
    if request.compute_capabilities:
        bindings.set_capabilities(config, request.compute_capabilities)
    if request.workspace_bytes is not None:
        bindings.limit_workspace(config, request.workspace_bytes)
    if request.optimization_level is not None:
        config.builder_optimization_level = request.optimization_level
    if request.layer_details:
        bindings.keep_layer_details(config)
    return config


def _profile(builder: Any, network: Any, request: BuildRequest) -> Any | None:
    """The sizes of every input that varies; None where none does."""
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    names = {one.name: _dimension_names(one) for one in inputs}
    unknown = sorted(
        {name or "without a name" for row in names.values() for name in row.values()} - set(request.ranges)
    )
    if unknown:
        raise ConfigError(
            f"{request.label} has dimensions whose sizes nobody named: {', '.join(unknown)}; got sizes for "
            f"{', '.join(request.ranges) or 'none'}. Give MIN:OPT:MAX for each."
        )
    if not any(names.values()):
        return None
    profile = builder.create_optimization_profile()
    for one in inputs:
        if varying := names[one.name]:
            ranges = {index: request.ranges[str(name)] for index, name in varying.items()}
            shape = [int(size) for size in one.shape]
            profile.set_shape(
                one.name,
                tuple(ranges[index].smallest if index in ranges else size for index, size in enumerate(shape)),
                tuple(ranges[index].best if index in ranges else size for index, size in enumerate(shape)),
                tuple(ranges[index].largest if index in ranges else size for index, size in enumerate(shape)),
            )
    return profile


def _dimension_names(tensor: Any) -> dict[int, str | None]:
    """Index and name of each dimension that varies."""
    return {index: tensor.get_dimension_name(index) or None for index, size in enumerate(tensor.shape) if size < 0}


def _mark_outputs(network: Any, names: Sequence[str]) -> None:
    if not names:
        return
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    made = {
        tensor.name: tensor
        for layer in layers
        for tensor in (layer.get_output(index) for index in range(layer.num_outputs))
        if tensor is not None
    }
    if unknown := [name for name in names if name not in made]:
        raise ConfigError(f"The network computes nothing called {', '.join(unknown[:LISTED])}, so it is no output.")
    already = {network.get_output(index).name for index in range(network.num_outputs)}
    for name in names:
        if name not in already:
            network.mark_output(made[name])


def _mark_refittable(bindings: Bindings, network: Any, request: BuildRequest) -> None:
    """Marks exactly the weights that were asked for.

    Raises:
        EngineBuildError: one of them does not exist, or TensorRT marks another one.
    """
    bindings.mark_refittable(network, request.refittable)
    weights = load_graph(request.graph).graph.initializers
    extra = [name for name in weights if name not in request.refittable and bindings.is_refittable(network, name)]
    if extra:
        raise EngineBuildError(
            f"{bindings.name} makes more weights refittable than asked for: {', '.join(extra[:LISTED])}."
        )


def _tensors(bindings: Bindings, network: Any) -> tuple[EngineTensor, ...]:
    held = [("input", network.get_input(index)) for index in range(network.num_inputs)]
    held += [("output", network.get_output(index)) for index in range(network.num_outputs)]
    return tuple(
        EngineTensor(tensor.name, mode, bindings.dtype_name(tensor.dtype), tuple(int(size) for size in tensor.shape))
        for mode, tensor in held
    )
