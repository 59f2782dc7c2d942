"""Merged tiny graphs, how far half precision may be off, and a ViT with an activation that fp16 cannot hold."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx_ir as ir
from export_samples import random_task, some_neurons, task_file

from mimi_edge.choices import Precision
from mimi_edge.export.graphs import load_graph
from mimi_edge.export.merge import merge
from mimi_edge.tasks.stores import Floats, Store

ROUND_OFF = {Precision.FP16: 2.0**-11, Precision.BF16: 2.0**-8}
"""The largest relative error of one rounding."""
ROUNDINGS = 8
"""Between image and logit of a tiny graph lie two or three blocks with some ten roundings each on the residual stream.
Thirty independent errors add up like the square root of thirty, 5.5; the rest is for logits that happen to be smaller
than what they are the sum of. A lost or wrong weight is off by a good part of the largest logit: a hundred times that.
"""
PLANTED = 5e4


def merged(exported, folder: Path, family: str = "vit", store: Store = Store.FP32) -> Path:
    """A tiny backbone with a random task, in a folder of its own."""
    backbone, graph = exported(family)
    shutil.copytree(graph.folder, folder, dirs_exist_ok=True)
    path = task_file(folder, random_task(backbone, some_neurons(backbone), store=store))
    return merge(folder / "backbone.onnx", path, folder / "sample.onnx").path


def saved(model: ir.Model, path: Path) -> Path:
    ir.save(model, path)
    return path


def relative_difference(got: Floats, expected: Floats) -> float:
    """Largest difference as a share of the largest expected number; infinite where something is no number."""
    if not np.isfinite(got).all():
        return float("inf")
    return float(np.abs(got - expected).max() / np.abs(expected).max())


def tolerance(precision: Precision) -> float:
    return ROUNDINGS * ROUND_OFF[precision]


def with_planted_overflow(path: Path) -> Path:
    """Makes the first block's values (of attention) 50,000 times as large, and their projection as much smaller.

    The logits stay what they were, because attention is linear in its values. The weights themselves fit into fp16.
    """
    model = load_graph(path)
    large = _scaled(model, (32, 96), slice(64, 96), PLANTED)
    _scaled(model, (96,), slice(64, 96), PLANTED)
    _scaled(model, (32, 32), slice(None), 1 / PLANTED)
    assert np.abs(large).max() < 65504 / 2
    return saved(model, path.with_name("planted.onnx"))


def _scaled(model: ir.Model, shape: tuple[int, ...], columns: slice, factor: float) -> Floats:
    value = next(value for value in _backbone_weights(model) if tuple(value.shape) == shape)
    array = np.array(value.const_value.numpy())
    array[..., columns] *= np.float32(factor)
    value.const_value = ir.Tensor(array, name=value.name)
    return array


def _backbone_weights(model: ir.Model) -> list[ir.Value]:
    """In the order of their use."""
    used = [
        value for node in model.graph for value in node.inputs if value is not None and value.const_value is not None
    ]
    return [value for value in used if value.dtype is ir.DataType.FLOAT]
