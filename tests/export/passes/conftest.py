"""Merged graphs of every family, once for all tests of the passes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from export_samples import random_task, some_neurons, task_file

from mimi_edge.export.merge import merge
from mimi_edge.tasks.stores import Store

Merged = Callable[..., Path]


@pytest.fixture(scope="session")
def merged(exported, tmp_path_factory: pytest.TempPathFactory) -> Merged:
    """Path of a merged graph of a family, by how its task's weights are stored and its activation."""
    made: dict[tuple[str, Store, str], Path] = {}

    def get(family: str, store: Store = Store.FP16, activation: str = "gelu") -> Path:
        key = family, store, activation
        if key not in made:
            backbone, graph = exported(family)
            folder = tmp_path_factory.mktemp("merged")
            shutil.copytree(graph.folder, folder, dirs_exist_ok=True)
            task = random_task(backbone, some_neurons(backbone), store=store, activation=activation)
            made[key] = merge(folder / "backbone.onnx", task_file(folder, task), folder / "sample.onnx").path
        return made[key]

    return get
