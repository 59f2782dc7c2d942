"""Exported backbones, once for all tests of this room."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from export_samples import tiny_backbone
from quick_exports import keep_operators

from mimi_edge.export.backbone_graph import export_backbone
from mimi_edge.export.graphs import BackboneGraph
from mimi_edge.training.backbones import LoadedBackbone

Exported = Callable[[str], tuple[LoadedBackbone, BackboneGraph]]


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _operators_once() -> None:
    keep_operators()


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Backbone and graph of a family."""
    cache = tmp_path_factory.mktemp("cache")
    made: dict[str, tuple[LoadedBackbone, BackboneGraph]] = {}

    def get(family: str) -> tuple[LoadedBackbone, BackboneGraph]:
        if family not in made:
            backbone = tiny_backbone(family)
            made[family] = backbone, export_backbone(backbone, cache)
        return made[family]

    return get


@pytest.fixture
def workplace(exported: Exported, tmp_path: Path) -> tuple[LoadedBackbone, Path]:
    """The tiny ViT, and a folder with a copy of its graph."""
    backbone, graph = exported("vit")
    folder = tmp_path / "workplace"
    shutil.copytree(graph.folder, folder)
    return backbone, folder
