"""What every family of backbones keeps to, on a tiny instance: one row, and everything behind it works.

Each method is tried on each family: it agrees between torch and the graph, or is refused with a reason. The families
that have tests of their own for every method are in `test_edits_contract`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import onnxruntime
import pytest
import torch
from export_samples import FAMILIES as TRIED_ELSEWHERE
from method_contracts import CLASSES, Case, case_of, differ, images, random_task
from tiny_families import TINY, tiny_family

from mimi_edge.choices import Backend, Precision
from mimi_edge.errors import ArtifactError, ConfigError
from mimi_edge.export.backbone_graph import export_backbone
from mimi_edge.export.engine_passes import default_passes, tune
from mimi_edge.export.graph_files import save_graph
from mimi_edge.export.graphs import INPUT, BackboneGraph, load_graph
from mimi_edge.export.merge import merge
from mimi_edge.export.onnx_runtime import open_graph
from mimi_edge.export.precision.half import to_half
from mimi_edge.methods.catalogue import METHODS
from mimi_edge.tasks.files import read_task, write_task
from mimi_edge.tasks.sizes import size_bytes
from mimi_edge.tasks.stores import Floats, Store
from mimi_edge.training.backbones import LoadedBackbone
from mimi_edge.training.edited_model import EditedModel
from mimi_edge.training.families import FAMILIES
from mimi_edge.training.references import reference_logits
from mimi_edge.training.strip import strip

TOLERANCE = 1e-4
HALF_TOLERANCE = 0.02
NOT_FOR_ENGINES = {"volo": "Col2Im"}
"""Families with an operator that TensorRT does not know."""

ALWAYS = {"mimi", "adapters", "adapter-plus", "phm", "compacter", "linear", "mlp-head"}
"""Methods that no backbone refuses: they add weights behind sub-layers, or to the head alone."""
ALIKE = {"siglip", "deit3", "beitv2", "eva", "twins-svt", "mobilevit"}
"""Of whose family another is exported here."""
EXPORTED = [family for family in TINY if family not in {*TRIED_ELSEWHERE, *ALIKE}]

each_family = pytest.mark.parametrize("family", EXPORTED)

Graphs = Callable[[str], BackboneGraph]


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Graphs:
    cache = tmp_path_factory.mktemp("families")
    made: dict[str, BackboneGraph] = {}

    def get(family: str) -> BackboneGraph:
        if family not in made:
            made[family] = export_backbone(tiny_family(family), cache)
        return made[family]

    return get


def why_refused(backbone: LoadedBackbone, method: str) -> str:
    """Why a backbone cannot have a method; nothing where it can."""
    try:
        case_of(backbone, METHODS[method])
    except ConfigError as error:
        return str(error)
    return ""


def merged(case: Case, graph: BackboneGraph, folder: Path, store: Store = Store.FP32) -> tuple[Path, Floats]:
    """The graph of a random task, and what torch answers to `images`."""
    shutil.copytree(graph.folder, folder, dirs_exist_ok=True)
    task = random_task(case, store)
    written = write_task(task, folder / "t.safetensors")
    assert written == (folder / "t.safetensors").stat().st_size == size_bytes(task.header, case.description.shapes)
    assert read_task(folder / "t.safetensors").header == task.header
    expected = reference_logits(case.backbone, task)(images(case.backbone))
    return merge(folder / "backbone.onnx", folder / "t.safetensors", folder / "t.onnx").path, expected


def answered(graph: Path, pixels: Floats) -> Floats:
    """What ONNX Runtime answers, as it is used."""
    return open_graph(graph).run(pixels)


def as_written(graph: Path, pixels: Floats) -> Floats:
    """The same, node by node: rearranging a graph takes as long as all else, and is the same for every method."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    logits: Floats = onnxruntime.InferenceSession(graph, options).run(None, {INPUT: pixels})[0]
    return logits


def test_every_family_is_exported_by_somebody() -> None:
    assert {tiny_family(name).family for name in (*EXPORTED, *TRIED_ELSEWHERE)} == set(FAMILIES)


@each_family
def test_torch_and_the_graph_agree_on_every_method_or_the_reason_is_said(
    family: str, graphs: Graphs, tmp_path: Path
) -> None:
    backbone, differences, refused = tiny_family(family), {}, {}
    for name, method in METHODS.items():
        if reason := why_refused(backbone, name):
            refused[name] = reason
            continue
        graph, expected = merged(case_of(backbone, method), graphs(family), tmp_path)
        answer = as_written if differences else answered
        differences[name] = differ(answer(graph, images(backbone)), expected)
    assert {name: one for name, one in differences.items() if not one < TOLERANCE} == {}
    assert not refused.keys() & ALWAYS
    assert all("--method" in reason for reason in refused.values())


@each_family
def test_the_graph_keeps_every_parameter_that_a_task_may_replace(family: str, graphs: Graphs) -> None:
    assert list(graphs(family).info.parameters) == list(tiny_family(family).network.parameters)


@each_family
def test_a_graph_on_its_way_to_an_engine_answers_alike_in_half_precision(
    family: str, graphs: Graphs, tmp_path: Path
) -> None:
    backbone = tiny_family(family)
    graph, expected = merged(case_of(backbone, METHODS["mimi"]), graphs(family), tmp_path, Store.FP16)
    model = load_graph(graph)
    if family in NOT_FOR_ENGINES:
        with pytest.raises(ArtifactError, match=NOT_FOR_ENGINES[family]):
            tune(model, default_passes(Backend.TRT))
        return
    tune(model, default_passes(Backend.TRT))
    save_graph(model, tmp_path / "tuned.onnx")
    assert differ(open_graph(tmp_path / "tuned.onnx").run(images(backbone)), expected) < TOLERANCE
    to_half(model, Precision.FP16)
    save_graph(model, tmp_path / "half.onnx")
    assert differ(open_graph(tmp_path / "half.onnx").run(images(backbone)), expected) < HALF_TOLERANCE


@each_family
def test_neurons_and_parameters_are_those_of_the_formula(family: str) -> None:
    backbone = tiny_family(family)
    case = case_of(backbone, METHODS["mimi"])
    neurons = {site.name: max(1, int(site.width / case.settings.start_ratio)) for site in backbone.sites}
    assert dict(case.description.sizes) == neurons
    assert case.description.numbers == sum(2 * site.width * neurons[site.name] for site in backbone.sites)


@each_family
@torch.no_grad()
def test_a_stripped_model_answers_like_a_masked_one(family: str) -> None:
    backbone = tiny_family(family)
    case = case_of(backbone, METHODS["mimi"])
    shown = torch.from_numpy(images(backbone))
    model = EditedModel(backbone, case.description, CLASSES)
    try:
        for parameter in model.stored.values():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)) * 0.3)
        kept = {site: tuple(range(0, size, 2)) for site, size in model.sizes.items()}
        kept[backbone.sites[0].name] = ()
        for site, indices in kept.items():
            gone = [index for index in range(model.sizes[site]) if index not in indices]
            model.tensor(f"{site}.up")[gone] = 0
        masked = model(shown)
        strip(model, kept, None)
        assert backbone.sites[0].name not in model.sizes
        assert (model(shown) - masked).abs().max() <= 2e-5 * masked.abs().max()
    finally:
        model.release()
