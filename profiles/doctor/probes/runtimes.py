"""Runs one node in an execution provider of ONNX Runtime. What it says it has and what it can load are two things."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mimi_edge.choices import Backend
from mimi_edge.runtimes import PROVIDERS

ONE_NODE = bytes.fromhex(
    "08073a550a110a01610a016212016322064d61744d756c1201675a130a0161120e0a0c080112080a0208020a0208025a130a"
    "0162120e0a0c080112080a0208020a02080262130a0163120e0a0c080112080a0208020a02080242040a00100d"
)
"""`c = MatMul(a, b)` of 2 x 2, written out: a runtime can be looked at where the library onnx is broken."""


def provider(name: str) -> Iterator[Mapping[str, Any]]:
    """Whether an execution provider is built in, and whether it computes.

    Args:
        name: of the backend, such as `ort-cuda`.
    """
    if find_spec("onnxruntime") is None:
        return
    backend = Backend(name)
    available = list(import_module("onnxruntime").get_available_providers())
    yield {"available": available, "built_in": PROVIDERS[backend][0] in available}
    if PROVIDERS[backend][0] in available:
        yield {"computes": _computes(backend)}


def _computes(backend: Backend) -> bool:
    import numpy as np

    from mimi_edge.caches import CACHE_VARIABLE
    from mimi_edge.export.onnx_runtime import open_session

    with tempfile.TemporaryDirectory() as folder:
        os.environ[CACHE_VARIABLE] = folder  # engines of one node are nothing to keep
        graph = Path(folder) / "one-node.onnx"
        graph.write_bytes(ONE_NODE)
        session = open_session(graph, threads=1, backend=backend)
        a, b = np.array([[1, 2], [3, 4]], np.float32), np.array([[5, 6], [7, 8]], np.float32)
        return bool(np.allclose(session.run(None, {"a": a, "b": b})[0], a @ b, rtol=1e-2))
