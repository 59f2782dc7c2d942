"""What every method keeps to on every family: the same tests for all, so that a new one has none of its own to write.

Sizes are exact, files come back as they were, the three interpreters agree, stripping is masking, and what a backbone
cannot have is refused with the reason.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from export_samples import FAMILIES
from method_contracts import CLASSES, Case, case_of, differ, images, merged_task, random_task

from mimi_edge.choices import Backend
from mimi_edge.errors import ArtifactError, ConfigError
from mimi_edge.export.engine_passes import default_passes, tune
from mimi_edge.export.graph_files import save_graph
from mimi_edge.export.graphs import describe, load_graph
from mimi_edge.export.merge import merge
from mimi_edge.export.onnx_runtime import open_graph
from mimi_edge.export.shared.layout import layout_of
from mimi_edge.methods.catalogue import METHODS
from mimi_edge.methods.costs import flops_of
from mimi_edge.methods.description import Description
from mimi_edge.methods.edits import Replace
from mimi_edge.methods.strategies import why_not_shared
from mimi_edge.tasks.descriptions import description_of
from mimi_edge.tasks.files import read_task, write_task
from mimi_edge.tasks.sizes import size_bytes
from mimi_edge.tasks.stores import Store
from mimi_edge.tasks.task import Task, decode_tensors
from mimi_edge.training.edited_model import EditedModel
from mimi_edge.training.flops import FlopsCount, count_flops
from mimi_edge.training.references import reference_logits
from mimi_edge.training.strip import strip

REFUSED = {("vpt-shallow", "swinv2"), ("vpt-deep", "swinv2")}
STARTS_ELSEWHERE = {"phm", "compacter", "sparse-adapter", "vpt-shallow", "vpt-deep", "mlp-head", "sidetune"}
"""Methods that change the answer before they are trained: tokens, layers, numbers are there from the start."""
SHARED = {"mimi", "adapters"}
PRUNABLE = {"mimi", "adapters", "adaptformer", "adapter-plus", "lora"}
"""Methods with indices that can be taken away, of which zeros change nothing."""
TOLERANCE = 3e-6
PAIRS = [(method, family) for family in FAMILIES for method in METHODS if (method, family) not in REFUSED]

each_pair = pytest.mark.parametrize(("method", "family"), PAIRS)


@pytest.fixture
def case(method: str, family: str, exported) -> Case:
    backbone, _ = exported(family)
    return case_of(backbone, METHODS[method])


@contextmanager
def edited(case: Case, description: Description | None = None) -> Iterator[EditedModel]:
    model = EditedModel(case.backbone, case.description if description is None else description, CLASSES)
    try:
        yield model
    finally:
        model.release()


def bare_logits(case: Case, task: Task, shown: np.ndarray) -> np.ndarray:
    head = decode_tensors(task.tensors)
    with torch.no_grad():
        features = case.backbone.module(torch.from_numpy(shown)).numpy()
    return features @ head["head.weight"].T + head["head.bias"]


@each_pair
@pytest.mark.parametrize("store", list(Store))
def test_the_size_is_exact_and_the_file_comes_back(case: Case, store: Store, tmp_path: Path) -> None:
    task, path = random_task(case, store), tmp_path / "t.safetensors"
    written = write_task(task, path)
    assert written == path.stat().st_size == size_bytes(task.header, case.description.shapes)
    again = read_task(path)
    assert again.header == task.header
    assert again.tensors.keys() == task.tensors.keys()
    assert all(np.array_equal(again.tensors[name], values) for name, values in task.tensors.items())
    assert description_of(again, case.backbone.network) == case.description
    assert any(axis.neutral for axis in case.description.axes) == (case.method.name in PRUNABLE)


@pytest.mark.parametrize(
    ("method", "family", "store"),
    [(*pair, Store.FP32) for pair in PAIRS] + [(*pair, Store.INT8) for pair in PAIRS if pair[1] == "vit"],
)
def test_torch_and_onnx_agree_on_what_was_changed(
    case: Case, family: str, method: str, store: Store, exported, tmp_path: Path
) -> None:
    _, graph = exported(family)
    shutil.copytree(graph.folder, tmp_path, dirs_exist_ok=True)
    task, shown = random_task(case, store), images(case.backbone)
    write_task(task, tmp_path / "t.safetensors")
    merged = merge(tmp_path / "backbone.onnx", tmp_path / "t.safetensors", tmp_path / "t.onnx")
    assert merged.info.task is not None
    assert merged.info.task.method == method
    expected = reference_logits(case.backbone, task)(shown)
    assert differ(open_graph(merged.path).run(shown), expected) < TOLERANCE
    if case.description.edits:
        assert differ(expected, bare_logits(case, task, shown)) > 100 * TOLERANCE


@pytest.mark.parametrize(("method", "family"), [pair for pair in PAIRS if pair[1] in ("vit", "swin")])
def test_a_graph_on_its_way_to_an_engine_answers_the_same(case: Case, family: str, exported, tmp_path: Path) -> None:
    _, graph = exported(family)
    path, shown = merged_task(case, graph, tmp_path, Store.FP16), images(case.backbone)
    expected = open_graph(path).run(shown)
    model = load_graph(path)
    tune(model, default_passes(Backend.TRT))
    save_graph(model, tmp_path / "tuned.onnx")
    assert differ(open_graph(tmp_path / "tuned.onnx").run(shown), expected) < TOLERANCE


@each_pair
def test_the_graph_knows_the_network_as_torch_does(case: Case, family: str, exported) -> None:
    _, graph = exported(family)
    assert case.method.describe(graph.info.network, case.settings) == case.description


@each_pair
def test_only_what_is_stored_is_trained(case: Case) -> None:
    generator = torch.Generator().manual_seed(0)
    before = {name: value.clone() for name, value in case.backbone.module.state_dict().items()}
    with edited(case) as model:
        with torch.no_grad():  # zeros would keep gradients from what stands in front of them
            for parameter in model.trained_parameters().values():
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
        logits = model(torch.from_numpy(images(case.backbone)))
        torch.nn.functional.cross_entropy(logits, torch.arange(CLASSES)).backward()
        still = [
            name
            for name, parameter in model.trained_parameters().items()
            if parameter.grad is None or not parameter.grad.abs().max() > 0
        ]
        stored = {tensor.name for tensor in case.description.tensors if tensor.trained}
        assert model.trained_parameters().keys() == {*stored, "head.weight", "head.bias"}
        assert [name for name in still if not name.endswith(KEY_BIASES)] == []
    assert all(torch.equal(value, before[name]) for name, value in case.backbone.module.state_dict().items())


KEY_BIASES = ("qkv.rep_down.bias",)
"""A bias of keys adds the same to every product of a query, and softmax takes it out again."""


@each_pair
def test_training_begins_with_the_answers_of_the_backbone(case: Case) -> None:
    shown = torch.from_numpy(images(case.backbone))
    with torch.no_grad():
        features = case.backbone.module(shown)
        with edited(case) as model:
            begun, plain = model(shown), model.head(features)
    moved = differ(begun.numpy(), plain.numpy())
    assert (moved > TOLERANCE) if case.method.name in STARTS_ELSEWHERE - {"phm", "compacter"} else (moved < TOLERANCE)


@pytest.mark.parametrize(("method", "family"), [pair for pair in PAIRS if pair[0] in PRUNABLE])
def test_a_stripped_task_answers_like_a_masked_one(case: Case) -> None:
    axes = case.description.axes
    weights = decode_tensors(random_task(case).tensors)
    kept = {axis.name: tuple(range(number % (axis.size + 1))) for number, axis in enumerate(axes)}
    shown = torch.from_numpy(images(case.backbone))
    with torch.no_grad(), edited(case) as model:
        model.load_weights(weights)
        whole = model(shown)
        strip(model, kept, None)
        stripped = model(shown)
        assert model.description == case.description.resized({name: len(indices) for name, indices in kept.items()})
    masked = {name: values.copy() for name, values in weights.items()}
    for axis in axes:
        for name, dim in axis.along.items():
            np.moveaxis(masked[name], dim, 0)[len(kept[axis.name]) :] = 0
    with torch.no_grad(), edited(case) as model:
        model.load_weights(masked | _outer_biases(case, kept, masked))
        expected = model(shown)
    assert differ(stripped.numpy(), expected.numpy()) < TOLERANCE
    assert differ(stripped.numpy(), whole.numpy()) > TOLERANCE


def _outer_biases(case: Case, kept: dict[str, tuple[int, ...]], weights: dict) -> dict:
    """A bottleneck that lost all neurons is gone, with the bias behind it."""
    gone = {site for site, indices in kept.items() if not indices}
    return {
        f"{site}.up.bias": np.zeros_like(weights[f"{site}.up.bias"]) for site in gone if f"{site}.up.bias" in weights
    }


@each_pair
def test_operations_are_those_that_torch_counts(case: Case) -> None:
    side = case.backbone.preprocessing.size
    bare = count_flops(case.backbone.module, side, FlopsCount.FULL)
    with edited(case) as model:
        counted = count_flops(model, side, FlopsCount.FULL) - bare - 2 * case.backbone.identity.features * CLASSES
        # Torch multiplies weights anew for every pass, and lets tokens ask as well as answer; a merged graph does not.
        extra = counted - flops_of(case.description, case.backbone.network)
    computed = any(isinstance(edit, Replace) for edit in case.description.edits) or case.method.name in (
        "phm",
        "compacter",
        "vpt-deep",
        *(("vpt-shallow",) if case.backbone.network.looks_at_windows else ()),
    )
    assert (extra >= 0) if computed else (extra == 0)


@pytest.mark.parametrize(("method", "family"), sorted(REFUSED))
def test_what_a_backbone_cannot_have_is_refused_with_the_reason(method: str, family: str, exported) -> None:
    backbone, _ = exported(family)
    with pytest.raises(ConfigError, match="needs") as refused:
        case_of(backbone, METHODS[method])
    assert "Take" in str(refused.value)


@pytest.mark.parametrize("method", METHODS)
def test_one_graph_for_all_tasks_takes_plain_bottlenecks_alone(method: str, exported) -> None:
    backbone, _ = exported("vit")
    case = case_of(backbone, METHODS[method])
    task = random_task(case)
    if not case.description.edits:
        return
    reason = why_not_shared(case.method, case.settings)
    assert (reason is None) == (method in SHARED)
    if reason is not None:
        with pytest.raises(ConfigError) as refused:
            layout_of([task])
        assert reason in str(refused.value)
        assert method in str(refused.value)


def test_a_graph_of_an_earlier_release_takes_tasks_of_mimi_alone(exported, tmp_path: Path) -> None:
    backbone, graph = exported("vit")
    shutil.copytree(graph.folder, tmp_path, dirs_exist_ok=True)
    model = load_graph(tmp_path / "backbone.onnx")
    describe(model, replace(graph.info, parameters=None, takes_tokens=(), takes_prompts=False))
    save_graph(model, tmp_path / "backbone.onnx")
    for method in ("mimi", "lora"):
        write_task(random_task(case_of(backbone, METHODS[method])), tmp_path / f"{method}.safetensors")
    merge(tmp_path / "backbone.onnx", tmp_path / "mimi.safetensors", tmp_path / "mimi.onnx")
    with pytest.raises(ArtifactError, match="knew only mimi") as refused:
        merge(tmp_path / "backbone.onnx", tmp_path / "lora.safetensors", tmp_path / "lora.onnx")
    assert "--output" in str(refused.value)


def test_a_task_with_a_tensor_too_many_or_of_another_shape_is_refused(exported) -> None:
    backbone, _ = exported("vit")
    case = case_of(backbone, METHODS["lora"])
    task = random_task(case)
    name = list(case.description.shapes)[1]
    for tensors, fault in (
        ({**task.tensors, "extra": np.zeros(3, np.float32)}, "tensor extra is unknown"),
        ({**task.tensors, name: np.zeros((2, 5), np.float32)}, f"tensor {name}: expected shape"),
        ({other: values for other, values in task.tensors.items() if other != name}, f"tensor {name} is missing"),
    ):
        with pytest.raises(ArtifactError, match="does not fit") as refused:
            description_of(replace(task, tensors=tensors), backbone.network)
        assert fault in str(refused.value)
