"""Tiny tasks of every method on tiny backbones of every family."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mimi_edge.export.graphs import BackboneGraph
from mimi_edge.export.merge import merge
from mimi_edge.methods.description import Description
from mimi_edge.methods.method import Method
from mimi_edge.tasks.descriptions import method_choice
from mimi_edge.tasks.files import write_task
from mimi_edge.tasks.stores import Floats, Store
from mimi_edge.tasks.task import SplitAccuracy, Task, TaskHeader, encode_tensors
from mimi_edge.training.backbones import LoadedBackbone
from mimi_edge.training.edited_model import EditedModel

CLASSES = 3
SMALL = {
    "start_ratio": 4.0,
    "neurons": 4,
    "parts": 2,
    "rank": 2,
    "tokens": 3,
    "width": 4,
    "layers": 3,
    "scale": 0.5,
    "tables": "yes",
}
"""Settings that make a method small, and unlike its defaults."""


@dataclass(frozen=True)
class Case:
    """A method on a backbone."""

    backbone: LoadedBackbone
    method: Method
    settings: Any
    description: Description

    def header(self, store: Store) -> TaskHeader:
        return TaskHeader(
            name=self.method.name,
            backbone=self.backbone.identity,
            classes=("ant", "bee", "cow"),
            preprocessing=self.backbone.preprocessing,
            activation="gelu",
            store=store,
            accuracy={"val": SplitAccuracy(0.5, 10)},
            training_sha256="a" * 64,
            versions={"mimi-edge": "0"},
            method=method_choice(self.method, self.settings),
        )


def case_of(backbone: LoadedBackbone, method: Method) -> Case:
    """The method, small, on a backbone.

    Raises:
        ConfigError: it cannot be.
    """
    given = {name: value for name, value in SMALL.items() if hasattr(method.settings(), name)}
    settings = method.settings_of(given)
    return Case(backbone, method, settings, method.on(backbone.network, settings))


def merged_task(case: Case, graph: BackboneGraph, folder: Path, store: Store) -> Path:
    """The merged graph of a random task, in a folder with a copy of the backbone's."""
    shutil.copytree(graph.folder, folder, dirs_exist_ok=True)
    write_task(random_task(case, store), folder / "t.safetensors")
    return merge(folder / "backbone.onnx", folder / "t.safetensors", folder / "t.onnx").path


def random_task(case: Case, store: Store = Store.FP32, seed: int = 0) -> Task:
    """A task whose every tensor differs from what training begins with."""
    model = EditedModel(case.backbone, case.description, CLASSES, seed=seed)
    model.release()
    generator = torch.Generator().manual_seed(seed)
    weights: dict[str, Floats] = {}
    for name, parameter in model.trained_parameters().items():
        change = torch.randn(parameter.shape, generator=generator) * 0.2
        weights[name] = (parameter.detach() + change).numpy().astype(np.float32)
    return Task(case.header(store), encode_tensors(weights, store) | model.masks())


def images(backbone: LoadedBackbone, count: int = 3) -> Floats:
    """Normalised images."""
    return np.random.default_rng(1).standard_normal((count, 3, *backbone.preprocessing.size)).astype(np.float32)


def differ(left: Floats, right: Floats) -> float:
    """Largest difference as a share of the largest value."""
    return float(np.abs(left - right).max() / np.abs(right).max())
