"""Tasks as different as tasks can be, and graphs for all of them in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from export_samples import random_task, task_file

from mimi_edge.export.graphs import BACKBONE_GRAPH
from mimi_edge.export.merge import merge
from mimi_edge.export.onnx_runtime import open_graph
from mimi_edge.export.shared.graph import SharedModel
from mimi_edge.export.shared.inputs import PADDED_LOGIT, task_tensors
from mimi_edge.export.shared.layout import SharedLayout
from mimi_edge.tasks.stores import Floats, Store
from mimi_edge.tasks.task import Task
from mimi_edge.training.backbones import LoadedBackbone


def different_tasks(backbone: LoadedBackbone) -> list[Task]:
    """Many neurons, few, a late site only, none at all; all stores; two to seven classes."""
    sites = [site.name for site in backbone.sites]
    wide = {site: 3 + 2 * index for index, site in enumerate(sites)}
    uneven = {site: (index * 3) % 4 for index, site in enumerate(sites)}
    return [
        random_task(backbone, wide, name="wide", classes=3, seed=1),
        random_task(backbone, uneven, name="uneven", classes=7, seed=2, store=Store.FP16),
        random_task(backbone, {sites[-1]: 6}, name="late", classes=2, seed=3, store=Store.INT8),
        random_task(backbone, {}, name="head only", classes=5, seed=4),
    ]


def loaded(shared: SharedModel, folder: Path, name: str = "shared.onnx") -> Any:
    """A session of a graph, written beside the backbone's weights."""
    path = folder / name
    path.write_bytes(ir.to_proto(shared.model).SerializeToString())
    onnx.checker.check_model(str(path), full_check=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options)


def merged_logits(folder: Path, task: Task, images: Floats) -> Floats:
    """What the task's own graph answers; `folder` holds a copy of the backbone's graph."""
    merged = merge(folder / BACKBONE_GRAPH, task_file(folder, task), folder / f"{task.header.name}.onnx")
    return open_graph(merged.path, threads=1).run(images)


def shared_logits(session: Any, task: Task, layout: SharedLayout, images: Floats) -> Floats:
    logits: Floats = session.run(None, {"images": images, **task_tensors(task, layout)})[0]
    return logits


def assert_answers(got: Floats, expected: Floats, tolerance: float = 1e-4) -> None:
    """Logits of a shared graph are the task's own, and no other class can ever win."""
    classes = expected.shape[1]
    assert np.abs(got[:, :classes] - expected).max() <= tolerance * np.abs(expected).max()
    assert (got[:, classes:] == PADDED_LOGIT).all()
    assert (got.argmax(axis=1) < classes).all()


def node_kinds(shared: SharedModel) -> Sequence[str]:
    return [node.op_type for node in shared.model.graph]
