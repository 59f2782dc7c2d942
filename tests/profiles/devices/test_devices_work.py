"""The work of a graph against torch's own count, and against what a task adds to it."""

import shutil

import pytest
import torch
from export_samples import random_task, some_neurons, task_file, tiny_backbone
from tiny_package import make_package

from mimi_edge.errors import ArtifactError, ConfigError
from mimi_edge.export.backbone_graph import export_backbone
from mimi_edge.export.merge import merge
from mimi_edge.images.image_size import ImageSize
from mimi_edge.methods import mimi
from mimi_edge.methods.costs import flops_of
from mimi_edge.profiles.devices.device import ELEMENT_BYTES
from mimi_edge.profiles.devices.work import Work, work_of
from mimi_edge.training.flops import FlopsCount, count_flops


@pytest.fixture(scope="module", params=["vit", "swin"])
def exported(request, tmp_path_factory):
    torch.set_num_threads(1)
    backbone = tiny_backbone(request.param)
    return backbone, export_backbone(backbone, tmp_path_factory.mktemp(request.param))


@pytest.fixture
def package(tmp_path):
    return make_package(tmp_path, {"first": (2, 3, 1)})


def test_operations_are_those_that_torch_counts(exported):
    backbone, graph = exported
    assert work_of(graph.path).flops == count_flops(backbone.module, ImageSize.of(32), FlopsCount.FULL)


def test_a_task_adds_its_adapters_and_its_head(exported, tmp_path):
    backbone, graph = exported
    folder = tmp_path / "merged"
    shutil.copytree(graph.folder, folder)
    neurons, classes = some_neurons(backbone), 5
    task = task_file(folder, random_task(backbone, neurons, classes=classes))
    merged = folder / "task.onnx"
    merge(folder / graph.path.name, task, merged)
    adapters = mimi.describe(backbone.network, mimi.MimiSettings()).resized(neurons)
    bare, whole, features = work_of(graph.path), work_of(merged), backbone.identity.features
    assert whole.flops - bare.flops == flops_of(adapters, backbone.network) + 2 * features * classes
    head = (features + 1) * classes
    assert whole.weight_elements - bare.weight_elements == adapters.numbers + head
    sites_in_use = sum(map(bool, neurons.values()))
    assert whole.kernels - bare.kernels == 2 * sites_in_use + 1


def test_a_larger_batch_is_more_work_on_the_same_weights(exported):
    one, eight = work_of(exported[1].path, 1), work_of(exported[1].path, 8)
    assert eight.flops == 8 * one.flops
    assert eight.activation_elements == 8 * one.activation_elements
    assert (eight.weight_elements, eight.kernels) == (one.weight_elements, one.kernels)


def test_the_weights_are_those_of_the_backbone(exported):
    backbone, graph = exported
    parameters = sum(parameter.numel() for parameter in backbone.module.parameters())
    # Constants that the exporter folded, such as a shift mask, come on top.
    assert parameters <= work_of(graph.path).weight_elements <= 1.2 * parameters


def test_products_of_a_small_package_are_counted_by_hand(package):
    stem, blocks = 2 * 16 * 3 * 8, 3 * 2 * 16 * 8 * 8
    assert work_of(package.backbone_graph).flops == stem + blocks
    adapters, head = 4 * 16 * 8 * (2 + 3 + 1), 2 * 8 * 3
    assert work_of(package.task("first").graph).flops == stem + blocks + adapters + head


def test_half_precision_moves_half_the_bytes():
    work = Work(1, 10, 6, 4, 1)
    assert {name: work.bytes_moved(name) for name in ELEMENT_BYTES} == {
        "fp32": 40,
        "tf32": 40,
        "fp16": 20,
        "bf16": 20,
        "int8": 10,
    }


@pytest.mark.parametrize("batch", [0, -1])
def test_a_batch_has_an_image(batch, package):
    with pytest.raises(ConfigError, match="at least one image"):
        work_of(package.backbone_graph, batch)


def test_a_graph_that_takes_weights_from_elsewhere_is_refused_before_it_is_counted(package):
    package.backbone_weights.unlink()
    with pytest.raises(ArtifactError, match="missing beside the graph"):
        work_of(package.backbone_graph)


def test_work_cannot_be_negative():
    with pytest.raises(ConfigError, match="no negative counts"):
        Work(1, -1, 0, 0, 0)
