"""Backbone graphs with random weights, and merged graphs made from them."""

from __future__ import annotations

import shutil
from pathlib import Path

from common import random_task

from mimi_edge.export.graphs import BackboneGraph, read_backbone_graph
from mimi_edge.export.merge import Merged, merge
from mimi_edge.tasks.files import write_task
from mimi_edge.tasks.task import Task


def exported(name: str, folder: Path, seed: int) -> BackboneGraph:
    """A copy, in a folder, of the graph of a backbone with random weights; the first time it is exported by torch."""
    import torch

    from mimi_edge.export.backbone_graph import export_backbone
    from mimi_edge.training.backbones import load_backbone

    torch.set_num_threads(2)
    cached = export_backbone(load_backbone(name, "random", seed=seed))
    for path in (cached.path, cached.weights):
        shutil.copyfile(path, folder / path.name)
    return read_backbone_graph(folder)


def with_task(backbone: BackboneGraph, seed: int) -> tuple[Task, Merged]:
    """Puts `random.safetensors`, a task of 0.5 MB, and `random.onnx` beside the backbone's graph."""
    info = backbone.info
    task = random_task("random", info.backbone, info.sites, info.preprocessing, seed=seed)
    task_file = backbone.folder / "random.safetensors"
    write_task(task, task_file)
    return task, merge(backbone.path, task_file, backbone.folder / "random.onnx")
