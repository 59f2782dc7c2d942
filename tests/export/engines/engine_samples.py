"""A small graph to build, and packages and sidecars to keep engines with."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import onnx_ir as ir
from fake_tensorrt import World, fake_module

from mimi_edge.choices import Backend, Precision, Strategy
from mimi_edge.export.engines.building.requests import BatchRange
from mimi_edge.export.engines.shelf.sidecars import Sidecar
from mimi_edge.export.engines.tensorrt.bindings import Bindings, bindings_of
from mimi_edge.export.engines.tensorrt.tensors import EngineTensor
from mimi_edge.export.manifest import FileEntry, Manifest, TaskEntry, write_manifest
from mimi_edge.images.image_size import ImageSize
from mimi_edge.tasks.task import BackboneIdentity

GRAPH = """
<ir_version: 10, opset_import: ["" : 20]>
small (float[batch, 3] images) => (float[batch, 3] logits)
<float[3, 2] down = {1, 2, 3, 4, 5, 6}, float[2, 3] up = {1, 2, 3, 4, 5, 6}, float[3] bias = {1, 2, 3}>
{
    hidden = MatMul (images, down)
    bent = Relu (hidden)
    wide = MatMul (bent, up)
    logits = Add (wide, bias)
}
"""
RANGES = {"batch": BatchRange(1, 8, 32)}
BACKBONE = BackboneIdentity("tiny", "b" * 64, 4)
TENSORS = (
    EngineTensor("images", "input", "float32", (-1, 3, 8, 8)),
    EngineTensor("logits", "output", "float32", (-1, 5)),
)


def small_graph(folder: Path, text: str = GRAPH) -> Path:
    path = folder / "small.onnx"
    model = ir.from_onnx_text(text)
    for index, node in enumerate(model.graph):
        node.name = f"node {index}"
    ir.save(model, path)
    return path


def fake_bindings(version: str, world: World | None = None) -> Bindings:
    backend = Backend.TRT_RTX if version.startswith("rtx") else Backend.TRT
    # The driver is the fake's, and what a real machine would find is a test of its own.
    return bindings_of(fake_module(version, world=world), backend, why_no_driver=lambda: None)


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def package(folder: Path, **tasks: str) -> Path:
    """A folder with a manifest as packages have, of tasks with these hashes."""
    folder.mkdir(exist_ok=True)
    files = {f"{name}.safetensors": FileEntry(sha256, 1) for name, sha256 in tasks.items()}
    files |= {f"{name}.onnx": FileEntry("0" * 64, 1) for name in tasks}
    entries = {name: TaskEntry(f"{name}.safetensors", f"{name}.onnx", {}) for name in tasks}
    write_manifest(folder, Manifest(BACKBONE, ImageSize(8, 8), files, entries))
    return folder


def sidecar(plan: bytes = b"plan", **changes: Any) -> Sidecar:
    values: dict[str, Any] = {
        "engine": "per-task.digits.fp16.engine",
        "sha256": digest(plan),
        "size_bytes": len(plan),
        "backend": Backend.TRT,
        "version": "10.3.0",
        "gpu": "Orin",
        "compute_capabilities": ("8.7",),
        "cuda": "12.6",
        "precision": Precision.FP16,
        "strategy": Strategy.PER_TASK,
        "mixed": False,
        "ranges": RANGES,
        "tensors": TENSORS,
        "tasks": {"digits": "d" * 64},
        "backbone_sha256": BACKBONE.sha256,
    }
    return Sidecar(**values | changes)
