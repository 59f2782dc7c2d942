"""Runs a graph in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from mimi_edge.errors import ArtifactError, ConfigError, MimiEdgeError
from mimi_edge.export.external_data import verify_graph
from mimi_edge.export.graphs import INPUT, GraphInfo
from mimi_edge.tasks.stores import Floats

CPU = ("CPUExecutionProvider",)
ERRORS_ONLY = 3


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

    def run(self, images: Floats) -> Floats:
        """Normalised images, float32 [B, 3, S, S] -> logits [B, C] of a merged graph, features [B, F] of a bare one.

        Raises:
            ConfigError: the images have another shape.
        """
        size = self.info.input_size
        if images.ndim != 4 or images.shape[1:] != (3, size, size) or not len(images):
            raise ConfigError(f"{self.path.name} takes images [B, 3, {size}, {size}]; got {list(images.shape)}.")
        outputs = self.session.run(None, {INPUT: np.ascontiguousarray(images, np.float32)})
        result: Floats = outputs[0]
        return result


def runtime_version() -> str | None:
    """Version of the installed ONNX Runtime, None without one."""
    if find_spec("onnxruntime") is None:
        return None
    return str(import_module("onnxruntime").__version__)


def open_graph(path: Path, *, threads: int | None = None, providers: Sequence[str] = CPU) -> OnnxModel:
    """Loads a bare or merged graph, after checking that it takes weights only from its own folder.

    Args:
        path: of the `.onnx` file; what it refers to lies beside it.
        threads: of the computation; None leaves it to the runtime.
        providers: ONNX Runtime's execution providers, the first that can wins.

    Raises:
        ArtifactError: the graph is damaged, not ours, or refers to what it must not.
        MimiEdgeError: ONNX Runtime is not installed, or cannot run the graph.
    """
    if runtime_version() is None:
        raise MimiEdgeError(
            'ONNX Runtime is not installed. For a CPU: pip install "mimi-edge[cpu]"; '
            'for an NVIDIA GPU: pip install "mimi-edge[gpu]"'
        )
    info = verify_graph(path).info
    return OnnxModel(path, info, _session(path, threads, providers))


def _session(path: Path, threads: int | None, providers: Sequence[str]) -> Any:
    onnxruntime = import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    # Else the threads of the graph that ran last go on spinning, and slow the next graph down: several tasks in one
    # process, run in turns on two cores, took twice as long each.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if threads is not None:
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=list(providers))
    except Exception as error:  # the runtime's own kinds, without a common base
        raise ArtifactError(f"ONNX Runtime {runtime_version()} refuses {path}: {error}. Export it again.") from error
