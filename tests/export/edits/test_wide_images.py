"""Backbones for images that are no squares: everything behind them works as for those that are.

Each method agrees between torch and the graph, or is refused with a reason.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from method_contracts import case_of, differ, images, random_task
from tiny_families import WIDE, wide_family

from mimi_edge.errors import ConfigError
from mimi_edge.export.backbone_graph import export_backbone
from mimi_edge.export.graphs import BackboneGraph
from mimi_edge.export.merge import merge
from mimi_edge.export.onnx_runtime import open_graph
from mimi_edge.images.image_size import ImageSize
from mimi_edge.methods.catalogue import METHODS
from mimi_edge.methods.costs import flops_of
from mimi_edge.tasks.files import read_task, write_task
from mimi_edge.training.edited_model import EditedModel
from mimi_edge.training.flops import FlopsCount, count_flops
from mimi_edge.training.references import reference_logits

TOLERANCE = 1e-4
NEVER_REFUSED = {"mimi", "adapters", "adapter-plus", "linear", "mlp-head"}
CLASSES = 3

each_family = pytest.mark.parametrize("family", WIDE)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("wide")


def merged(family: str, method: str, graph: BackboneGraph, folder: Path) -> tuple[Path, Path]:
    shutil.copytree(graph.folder, folder, dirs_exist_ok=True)
    task = folder / "t.safetensors"
    write_task(random_task(case_of(wide_family(family), METHODS[method])), task)
    return task, merge(folder / "backbone.onnx", task, folder / "t.onnx").path


@each_family
def test_torch_and_the_graph_agree_on_every_method_or_the_reason_is_said(
    family: str, cache: Path, tmp_path: Path
) -> None:
    backbone, differences, refused = wide_family(family), {}, {}
    graph = export_backbone(backbone, cache)
    for name in METHODS:
        try:
            task, path = merged(family, name, graph, tmp_path)
        except ConfigError as error:
            refused[name] = str(error)
            continue
        expected = reference_logits(backbone, read_task(task))(images(backbone))
        differences[name] = differ(open_graph(path).run(images(backbone)), expected)
    assert graph.info.input_size == ImageSize(*WIDE[family])
    assert {name: one for name, one in differences.items() if not one < TOLERANCE} == {}
    assert not refused.keys() & NEVER_REFUSED
    assert all("--method" in reason for reason in refused.values())


@each_family
def test_a_file_keeps_height_and_width(family: str, tmp_path: Path) -> None:
    case = case_of(wide_family(family), METHODS["mimi"])
    write_task(random_task(case), tmp_path / "t.safetensors")
    assert read_task(tmp_path / "t.safetensors").header.preprocessing.size == ImageSize(*WIDE[family])


def test_a_network_beside_the_backbone_halves_both_sides_four_times() -> None:
    with pytest.raises(ConfigError, match="multiples of 16, got 28x42"):
        case_of(wide_family("dinov2"), METHODS["sidetune"])


@pytest.mark.parametrize("method", ["mimi", "sidetune"])
def test_operations_are_those_that_torch_counts(method: str) -> None:
    backbone = wide_family("vit")
    size = backbone.preprocessing.size
    case = case_of(backbone, METHODS[method])
    bare = count_flops(backbone.module, size, FlopsCount.FULL)
    model = EditedModel(backbone, case.description, CLASSES)
    try:
        head = 2 * CLASSES * backbone.identity.features
        assert count_flops(model, size, FlopsCount.FULL) == bare + flops_of(case.description, backbone.network) + head
    finally:
        model.release()


def test_other_images_are_refused_with_both_sides(cache: Path) -> None:
    graph = export_backbone(wide_family("vit"), cache)
    square = images(wide_family("vit")).swapaxes(2, 3)
    with pytest.raises(ConfigError, match=r"takes images \[B, 3, 16, 48\]; got \[3, 3, 48, 16\]"):
        open_graph(graph.folder / "backbone.onnx").run(square)
