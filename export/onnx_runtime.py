"""Runs a graph in ONNX Runtime."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from mimi_edge.caches import default_cache
from mimi_edge.choices import Backend
from mimi_edge.errors import ArtifactError, ConfigError, MimiEdgeError
from mimi_edge.export.external_data import VerifiedGraph, verify_graph
from mimi_edge.export.graphs import INPUT, GraphInfo
from mimi_edge.files import sha256_of
from mimi_edge.installation import is_tegra, pip_line
from mimi_edge.parts import GPU, install_line, onnx_runtime_words
from mimi_edge.runtimes import PROVIDERS, runtime_of
from mimi_edge.tasks.stores import Floats

ERRORS_ONLY = 3
NO_MEMORY = ("bad_alloc", "allocate memory", "out of memory", "CUDA_ERROR_OUT_OF_MEMORY")
"""What a runtime says of it."""


@dataclass(frozen=True)
class OnnxModel:
    """A graph that is loaded and ready.

    Attributes:
        path: of the graph.
        info: what the graph says about itself.
        session: the `onnxruntime.InferenceSession`.
    """

    path: Path
    info: GraphInfo
    session: Any

    def run(self, images: Floats, options: Any = None) -> Floats:
        """Normalised images, float32 [B, 3, H, W] -> logits [B, C] of a merged graph, features [B, F] of a bare one.

        Args:
            images: of any batch.
            options: `onnxruntime.RunOptions` of this run.

        Raises:
            ArtifactError: the graph cannot be run, or answers something else.
            ConfigError: the images have another shape.
            MimiEdgeError: there is not enough memory.
        """
        size = self.info.input_size
        if images.ndim != 4 or images.shape[1:] != (3, *size) or not len(images):
            raise ConfigError(
                f"{self.path.name} takes images [B, 3, {size.height}, {size.width}]; got {list(images.shape)}."
            )
        try:
            outputs = self.session.run(None, {INPUT: np.ascontiguousarray(images, np.float32)}, options)
        except Exception as error:  # the runtime's own kinds, without a common base
            raise _failed_run(self.path, images, error) from error
        return self._checked(outputs[0], images)

    def _checked(self, answer: Any, images: Floats) -> Floats:
        """A graph is data from elsewhere: what it answers is used to look up classes."""
        got = tuple(getattr(answer, "shape", ()))
        # A graph without a task gives features, or logits of tasks that come with each run.
        width = len(self.info.task.classes) if self.info.task else got[-1] if len(got) == 2 else "width"
        if got != (len(images), width):
            raise ArtifactError(
                f"{self.path} answers {list(got)}; expected [{len(images)}, {width}], as it says of itself. "
                "Export it again."
            )
        result: Floats = answer
        return result


def _failed_run(path: Path, images: Floats, error: Exception) -> MimiEdgeError:
    if isinstance(error, MemoryError) or any(word in str(error) for word in NO_MEMORY):
        return MimiEdgeError(
            f"There is not enough memory to run {path.name} on {len(images)} images at once. "
            "Give it fewer at a time, or close other programs."
        )
    return ArtifactError(f"ONNX Runtime {runtime_version()} cannot run {path}: {error}. Export it again.")


def runtime_version() -> str | None:
    """Version of the installed ONNX Runtime, None without one."""
    if find_spec("onnxruntime") is None:
        return None
    return str(import_module("onnxruntime").__version__)


def open_graph(
    path: Path, *, threads: int | None = None, backend: Backend = Backend.ORT_CPU, rearrange: bool = True
) -> OnnxModel:
    """Loads a bare or merged graph, after checking that it takes weights only from its own folder.

    Args:
        path: of the `.onnx` file; what it refers to lies beside it.
        threads: of the computation; None leaves it to the runtime.
        backend: one of ONNX Runtime's.
        rearrange: let the runtime change the layout of tensors; False for graphs whose weights are overridden, with
            which ONNX Runtime 1.23 crashes there.

    Raises:
        ArtifactError: the graph is damaged, not ours, or refers to what it must not.
        MimiEdgeError: ONNX Runtime is not installed, lacks the backend, or cannot run the graph.
    """
    check_backend(backend)
    info = verify_graph(path).info
    return OnnxModel(path, info, open_session(path, threads=threads, backend=backend, rearrange=rearrange))


def open_unchanged(path: Path, sha256: str, *, threads: int | None = None, backend: Backend = Backend.ORT_CPU) -> Any:
    """A session of a graph that another process verified; reads no ONNX itself, which would take longer than all else.

    Args:
        path: of the graph.
        sha256: hex, of the file as it was verified.
        threads: as of `open_graph`.
        backend: likewise.

    Raises:
        ArtifactError: it is another graph by now.
        MimiEdgeError: as of `open_graph`.
    """
    check_backend(backend)
    if sha256_of(path) != sha256:
        raise ArtifactError(f"{path} was replaced since it was checked. Run the command again.")
    return open_session(path, threads=threads, backend=backend)


def open_verified(graph: VerifiedGraph, *, threads: int | None = None) -> OnnxModel:
    """The same on the CPU, for a graph that was checked already."""
    check_backend(Backend.ORT_CPU)
    return OnnxModel(graph.path, graph.info, open_session(graph.path, threads=threads))


def check_backend(backend: Backend) -> None:
    """Makes sure that ONNX Runtime is installed and was built with what a backend needs.

    Raises:
        MimiEdgeError: it is not, with the line that installs it.
    """
    if runtime_version() is None:
        raise MimiEdgeError(f"ONNX Runtime is not installed. {onnx_runtime_words()}")
    wanted = PROVIDERS[backend][0]
    available = import_module("onnxruntime").get_available_providers()
    if wanted not in available:
        raise MimiEdgeError(
            f"This ONNX Runtime {runtime_version()} was built without {wanted}; it has {', '.join(available)}. "
            f"{_with_a_gpu()}"
        )


def _with_a_gpu() -> str:
    """How to come by an ONNX Runtime that uses an NVIDIA GPU, where that can be had."""
    if is_tegra():
        return onnx_runtime_words()
    return f"For an NVIDIA GPU: {pip_line('uninstall -y onnxruntime')} && {install_line(GPU)}"


def open_session(
    path: Path, *, threads: int | None = None, backend: Backend = Backend.ORT_CPU, rearrange: bool = True
) -> Any:
    """An `onnxruntime.InferenceSession` that really runs on the backend; the graph was verified by the caller.

    Raises:
        ArtifactError: the runtime refuses the graph.
        MimiEdgeError: the backend's libraries or the GPU's driver cannot be loaded.
    """
    onnxruntime = import_module("onnxruntime")
    if runtime_of(backend).needs_gpu and hasattr(onnxruntime, "preload_dlls"):
        # CUDA from pip's own packages lies where the system's loader does not look.
        onnxruntime.preload_dlls()
    try:
        session = onnxruntime.InferenceSession(
            str(path), _options(onnxruntime, threads, rearrange), providers=_providers(backend, path)
        )
    except Exception as error:  # the runtime's own kinds, without a common base
        raise ArtifactError(f"ONNX Runtime {runtime_version()} refuses {path}: {error}. Export it again.") from error
    if not session.get_outputs():
        raise ArtifactError(f"{path} has no outputs, so it answers nothing. Export it again.")
    if session.get_providers()[0] != PROVIDERS[backend][0]:
        # ONNX Runtime goes on without a provider that fails to load, and says so in its log alone.
        raise MimiEdgeError(
            f"ONNX Runtime cannot load {PROVIDERS[backend][0]} here and would use {session.get_providers()[0]}. "
            "Check the GPU's driver with nvidia-smi, and that CUDA and cuDNN (for ort-trt also TensorRT) are of the "
            f"versions that onnxruntime-gpu {runtime_version()} was built for."
        )
    return session


def _options(onnxruntime: Any, threads: int | None, rearrange: bool) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    if not rearrange:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    # Else the threads of the graph that ran last go on spinning, and slow the next graph down: several tasks in one
    # process, run in turns on two cores, took twice as long each.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if threads is not None:
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
    return options


def _providers(backend: Backend, path: Path) -> list[Any]:
    """A backend's providers with what they need to know."""
    names: list[Any] = list(PROVIDERS[backend])
    if backend is Backend.ORT_TRT:
        cache = default_cache() / "ort-trt"
        cache.mkdir(parents=True, exist_ok=True)
        names[0] = (
            names[0],
            {
                "trt_engine_cache_enable": True,
                "trt_engine_cache_path": str(cache),
                "trt_timing_cache_enable": True,
                "trt_timing_cache_path": str(cache),
                "trt_onnx_model_folder_path": str(path.parent),
            },
        )
    return names
