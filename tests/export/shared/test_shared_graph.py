from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir
import pytest
from export_samples import FAMILIES, random_images, random_task
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shared_samples import (
    assert_answers,
    different_tasks,
    loaded,
    merged_logits,
    node_kinds,
    shared_logits,
)

from mimi_edge.choices import Backend, Precision, Strategy
from mimi_edge.errors import ArtifactError
from mimi_edge.export.engine_passes import default_passes, tune
from mimi_edge.export.graphs import load_graph
from mimi_edge.export.precision.half import to_half
from mimi_edge.export.shared.graph import SharedModel, shared_model
from mimi_edge.export.shared.inputs import answer_indices, bank_of, task_tensors, tensor_shapes
from mimi_edge.export.shared.layout import Spare, layout_of, misfits, read_layout
from mimi_edge.images.image_size import ImageSize
from mimi_edge.tasks.stores import Floats
from mimi_edge.tasks.task import Task
from mimi_edge.training.backbones import LoadedBackbone

IMAGES = random_images(3)


@dataclass(frozen=True)
class World:
    """A family's tasks, their graphs in ONNX Runtime, and what the tasks' own graphs answer on IMAGES."""

    folder: Path
    backbone: LoadedBackbone
    tasks: list[Task]
    plain: SharedModel
    mixed: SharedModel
    plain_session: Any
    mixed_session: Any
    expected: list[Floats]


@pytest.fixture(scope="module")
def world(exported, tmp_path_factory) -> Callable[[str], World]:
    made: dict[str, World] = {}

    def get(family: str) -> World:
        if family not in made:
            made[family] = _world(*exported(family), tmp_path_factory.mktemp(family) / "graphs")
        return made[family]

    return get


def _world(backbone, graph, folder) -> World:
    shutil.copytree(graph.folder, folder)
    tasks = different_tasks(backbone)
    layout = layout_of(tasks)
    plain, mixed = shared_model(graph.path, layout), shared_model(graph.path, layout, mixed=True)
    sessions = loaded(plain, folder, "shared.onnx"), loaded(mixed, folder, "mixed.onnx")
    expected = [merged_logits(folder, task, IMAGES) for task in tasks]
    return World(folder, backbone, tasks, plain, mixed, *sessions, expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_shared_graph_answers_what_every_tasks_own_graph_answers(family, world):
    here = world(family)
    for task, expected in zip(here.tasks, here.expected, strict=True):
        for batch in (1, 3):
            got = shared_logits(here.plain_session, task, here.plain.layout, IMAGES[:batch])
            assert_answers(got, expected[:batch])


@pytest.mark.parametrize("family", FAMILIES)
def test_all_tasks_on_one_frame_in_one_pass(family, world):
    here = world(family)
    answers = [(0, task) for task in range(len(here.tasks))]
    got = _mixed(here, here.tasks, answers, IMAGES[:1])
    for row, expected in zip(got, here.expected, strict=True):
        assert_answers(row[None], expected[:1])


@settings(max_examples=15)
@given(data=st.data())
@pytest.mark.parametrize("family", FAMILIES)
def test_any_answers_about_any_frames_by_any_tasks(data, family, world):
    here = world(family)
    resident = data.draw(st.lists(st.integers(0, len(here.tasks) - 1), min_size=1, max_size=5), label="resident")
    answers = data.draw(
        st.lists(st.tuples(st.integers(0, 2), st.integers(0, len(resident) - 1)), min_size=1, max_size=7),
        label="answers",
    )
    got = _mixed(here, [here.tasks[index] for index in resident], answers, IMAGES)
    for row, (frame, turn) in zip(got, answers, strict=True):
        assert_answers(row[None], here.expected[resident[turn]][frame : frame + 1])


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_new_task_that_fits_runs_in_the_old_graph(data, world):
    here = world("vit")
    room = here.plain.layout.neurons
    new = random_task(
        here.backbone,
        {site: data.draw(st.integers(0, count), label=site) for site, count in room.items()},
        classes=data.draw(st.integers(2, here.plain.layout.classes)),
        seed=data.draw(st.integers(0, 99)),
        name="new",
    )
    assert misfits(new, here.plain.layout) == ()
    expected = merged_logits(here.folder, new, IMAGES)
    assert_answers(shared_logits(here.plain_session, new, here.plain.layout, IMAGES), expected)
    got = _mixed(here, [here.tasks[0], new], [(2, 1), (0, 0)], IMAGES)
    assert_answers(got[:1], expected[2:])
    assert_answers(got[1:], here.expected[0][:1])


def test_a_padded_class_never_wins_not_even_against_the_worst_logits(world):
    here = world("vit")
    task = here.tasks[2]
    hopeless = dict(task.tensors) | {"head.bias": np.full(2, -30000, np.float32)}
    got = shared_logits(here.plain_session, replace(task, tensors=hopeless), here.plain.layout, IMAGES)
    assert (got.argmax(axis=1) < 2).all()


@pytest.mark.parametrize("mixed", [False, True])
def test_inputs_and_output_are_what_the_layout_says(mixed, world):
    here = world("swin")
    shared = here.mixed if mixed else here.plain
    front, count = (["tasks"], "answers") if mixed else ([], "batch")
    given = {
        value.name: [str(size) if not isinstance(size, int) else size for size in value.shape]
        for value in shared.model.graph.inputs
    }
    assert given.pop("images") == ["frames" if mixed else "batch", 3, 32, 32]
    if mixed:
        assert given.pop("frame_of_answer") == given.pop("task_of_answer") == ["answers"]
    assert given == {name: [*front, *shape] for name, shape in tensor_shapes(shared.layout).items()}
    assert list(given) == list(tensor_shapes(shared.layout))
    (logits,) = shared.model.graph.outputs
    assert logits.name == "logits"
    assert list(map(str, logits.shape)) == [count, "7"]


@pytest.mark.parametrize("mixed", [False, True])
def test_a_site_that_no_task_uses_has_no_input_and_no_node(mixed, exported):
    backbone, graph = exported("vit")
    bare = [node.op_type for node in load_graph(graph.path).graph]
    one = shared_model(graph.path, layout_of([random_task(backbone, {"blocks.1.attn": 3})]), mixed=mixed)
    none = shared_model(graph.path, layout_of([random_task(backbone, {})]), mixed=mixed)
    inputs, nothing = (
        [value.name for value in each.model.graph.inputs if "blocks" in value.name] for each in (one, none)
    )
    assert (inputs, nothing) == (["blocks.1.attn.down", "blocks.1.attn.up"], [])
    assert node_kinds(one).count("Gelu") == bare.count("Gelu") + 1
    assert node_kinds(none).count("Gelu") == bare.count("Gelu")


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_a_graph_with_spare_room_answers_the_same(activation, mixed, exported, tmp_path):
    backbone, graph = exported("vit")
    shutil.copytree(graph.folder, tmp_path, dirs_exist_ok=True)
    task = random_task(backbone, {"blocks.0.mlp": 2}, activation=activation)
    shared = shared_model(graph.path, layout_of([task], spare=Spare(3, 4, backbone.sites)), mixed=mixed)
    assert len(shared.layout.sites) == len(backbone.sites)
    session = loaded(shared, tmp_path)
    weights = bank_of([task], shared.layout) if mixed else task_tensors(task, shared.layout)
    indices = answer_indices([(2, 0), (0, 0), (1, 0)], frames=3, tasks=1) if mixed else {}
    got = session.run(None, {"images": IMAGES, **weights, **indices})[0]
    expected = merged_logits(tmp_path, task, IMAGES)
    assert_answers(got, expected[[2, 0, 1]] if mixed else expected)


def test_the_graph_holds_no_weights_and_the_sites_keep_their_names(world):
    here = world("swin")
    size = (here.folder / "backbone.onnx").stat().st_size
    for shared, name in ((here.plain, "shared.onnx"), (here.mixed, "mixed.onnx")):
        assert (here.folder / name).stat().st_size < 2 * size
        produced = {value.name for node in shared.model.graph for value in node.outputs}
        assert produced >= {site.name for site in here.backbone.sites}
        assert produced >= {f"{site}.adapted" for site in shared.layout.sites}


def test_only_plain_operators_that_engines_have_known_for_long(world):
    added = {"Gather", "MatMul", "Reshape", "Add", "Gelu", "Gemm", "Shape", "Concat"}
    for family in FAMILIES:
        here = world(family)
        bare = {node.op_type for node in load_graph(here.folder / "backbone.onnx").graph}
        assert set(node_kinds(here.mixed)) <= bare | added
        assert set(node_kinds(here.plain)) <= bare | added


def test_the_document_is_json_and_the_graph_carries_it(world):
    for shared in (world("vit").plain, world("vit").mixed):
        document = json.loads(json.dumps(shared.document()))
        assert read_layout(document["layout"]) == shared.layout
        assert (document["mixed"], document["saved_blocks"]) == (shared.mixed, shared.saved_blocks)
        assert json.loads(shared.model.metadata_props["mimi_edge_shared"]) == document


def test_a_graph_of_another_backbone_or_with_a_task_is_refused(workplace):
    backbone, folder = workplace
    task = random_task(backbone, {"blocks.0.attn": 2})
    layout = layout_of([task])
    wrong = replace(
        layout,
        backbone=replace(layout.backbone, name="stranger", sha256="f" * 64),
        input_size=ImageSize(16, 16),
        neurons={"blocks.0.attn": 2, "blocks.7.mlp": 1},
        widths={"blocks.0.attn": 8, "blocks.7.mlp": 8},
    )
    with pytest.raises(ArtifactError) as caught:
        shared_model(folder / "backbone.onnx", wrong)
    for part in ("stranger", "tiny vit", "32 px, the tasks of 16 px", "width 8, the graph 32", "no such site"):
        assert part in str(caught.value)
    merged_logits(folder, task, IMAGES)
    with pytest.raises(ArtifactError, match="already has task sample"):
        shared_model(folder / "sample.onnx", layout)


def test_the_same_tasks_give_the_same_bytes(world):
    here = world("swin")
    again = shared_model(here.folder / "backbone.onnx", here.mixed.layout, mixed=True)
    assert onnx_ir.to_proto(again.model).SerializeToString() == (here.folder / "mixed.onnx").read_bytes()


def _mixed(here: World, resident: list[Task], answers: list[tuple[int, int]], images: Floats) -> Floats:
    indices = answer_indices(answers, frames=len(images), tasks=len(resident))
    logits: Floats = here.mixed_session.run(
        None, {"images": images, **bank_of(resident, here.mixed.layout), **indices}
    )[0]
    return logits


@pytest.mark.parametrize("family", ["vit", "swin"])
@pytest.mark.parametrize("mixed", [False, True])
def test_an_engines_passes_and_half_precision_keep_the_answers(mixed, family, world):
    here = world(family)
    shared = shared_model(here.folder / "backbone.onnx", here.plain.layout, mixed=mixed)
    assert tune(shared.model, default_passes(Backend.TRT, Strategy.SHARED))
    _assert_right(here, loaded(shared, here.folder, "tuned.onnx"), shared, np.float32, 1e-4)
    to_half(shared.model, Precision.FP16)
    _assert_right(here, loaded(shared, here.folder, "half.onnx"), shared, np.float16, 2e-2)


def _assert_right(
    here: World, session: Any, shared: SharedModel, kind: type[np.floating[Any]], tolerance: float
) -> None:
    """All tasks answer all images, with their weights in one type."""
    answers = [(frame, task) for task in range(len(here.tasks)) for frame in range(len(IMAGES))]
    indices = answer_indices(answers, frames=len(IMAGES), tasks=len(here.tasks))
    bank = {name: values.astype(kind) for name, values in bank_of(here.tasks, shared.layout).items()}
    if shared.mixed:
        got = session.run(None, {"images": IMAGES, **bank, **indices})[0].reshape(len(here.tasks), len(IMAGES), -1)
    else:
        runs = [{name: values[turn] for name, values in bank.items()} for turn in range(len(here.tasks))]
        got = [session.run(None, {"images": IMAGES, **run})[0] for run in runs]
    for logits, expected in zip(got, here.expected, strict=True):
        assert_answers(logits, expected, tolerance)
