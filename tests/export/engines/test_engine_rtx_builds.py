"""Real engines, built by TensorRT for RTX without a GPU: every strategy and precision, for GPUs that are not here."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import onnx_ir as ir
import pytest
from export_samples import FAMILIES, random_task, task_file

from mimi_edge.choices import Backend, Precision, Strategy
from mimi_edge.errors import EngineBuildError, MimiEdgeError, StoppedError
from mimi_edge.export.backbone_graph import export_backbone
from mimi_edge.export.engine_graphs import engine_graph
from mimi_edge.export.engine_passes import default_passes, tune
from mimi_edge.export.engines.building.build import BuiltEngine, build_engine
from mimi_edge.export.engines.building.requests import BatchRange, BuildRequest
from mimi_edge.export.engines.tensorrt.bindings import Bindings, load_bindings
from mimi_edge.export.engines.tensorrt.messages import explain_build
from mimi_edge.export.graphs import load_graph
from mimi_edge.export.merge import merge
from mimi_edge.export.precision.half import to_half
from mimi_edge.export.shared.graph import shared_model
from mimi_edge.export.shared.layout import layout_of
from mimi_edge.tasks.task import Task
from mimi_edge.training import supported
from mimi_edge.training.backbones import load_backbone

CAPABILITIES = ("8.6", "8.9", "12.0")
RANGES = {
    "batch": BatchRange(1, 8, 32),
    "frames": BatchRange(1, 1, 4),
    "answers": BatchRange(1, 8, 32),
    "tasks": BatchRange(1, 2, 8),
}
HALVES = {Precision.FP32: "float32", Precision.FP16: "float16", Precision.BF16: "bfloat16"}
PLAIN, MIXED = False, True


@dataclass(frozen=True)
class Workplace:
    """A folder with a backbone's graph and two merged tasks of it."""

    folder: Path
    tasks: tuple[Task, Task]

    @property
    def backbone(self) -> Path:
        return self.folder / "backbone.onnx"

    @property
    def merged(self) -> Path:
        return self.folder / "first.onnx"


@pytest.fixture(scope="session")
def rtx() -> Bindings:
    pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT for RTX is not installed")
    return load_bindings(Backend.TRT_RTX)


@pytest.fixture(scope="session")
def workplace_of(exported, tmp_path_factory) -> Callable[[str], Workplace]:
    """Of a tiny family, or of a model by its name; made once."""

    @cache
    def make(name: str) -> Workplace:
        if name in FAMILIES:
            backbone, graph = exported(name)
        else:
            backbone = load_backbone(name, "pretrained" if name == "builtin" else "random")
            graph = export_backbone(backbone, tmp_path_factory.mktemp("backbones"))
        folder = tmp_path_factory.mktemp("package") / name
        shutil.copytree(graph.folder, folder)
        tasks = tuple(
            random_task(
                backbone,
                {site.name: (index + shift) % 4 for index, site in enumerate(backbone.sites)},
                name=task,
                classes=5 + shift,
                seed=shift,
            )
            for shift, task in enumerate(("first", "second"))
        )
        for task in tasks:
            merge(folder / "backbone.onnx", task_file(folder, task), folder / f"{task.header.name}.onnx")
        return Workplace(folder, (tasks[0], tasks[1]))

    return make


def graph_for(place: Workplace, strategy: Strategy, precision: Precision, mixed: bool) -> ir.Model:
    if strategy is Strategy.SHARED:
        model = shared_model(place.backbone, layout_of(place.tasks), mixed=mixed).model
    else:
        model = load_graph(place.merged)
    tune(model, default_passes(Backend.TRT_RTX, strategy))
    to_half(model, precision)
    return model


def built(
    rtx: Bindings, place: Workplace, strategy: Strategy, precision: Precision, *, mixed: bool = False, **request: object
) -> tuple[BuiltEngine, ir.Model]:
    model = graph_for(place, strategy, precision, mixed)
    with engine_graph(model, place.folder) as graph:
        asked = BuildRequest(graph, RANGES, compute_capabilities=CAPABILITIES, **request)  # type: ignore[arg-type]
        return build_engine(rtx, asked), model


def check(made: BuiltEngine, model: ir.Model, precision: Precision) -> None:
    """Its inputs and outputs are the graph's, its layers are the graph's nodes, and it took nothing half seriously."""
    sizes = {value.name: value.shape for value in (*model.graph.inputs, *model.graph.outputs)}
    found = {one.name: one for one in made.tensors}
    inputs = [value.name for value in model.graph.inputs if value.name not in model.graph.initializers]
    assert [one.name for one in made.tensors] == [*inputs, "logits"]
    for name, one in found.items():
        assert one.shape == tuple(size if isinstance(size, int) else -1 for size in sizes[name])
        indices = name.endswith("_of_answer")
        expected = "float32" if name in {"images", "logits"} else "int32" if indices else HALVES[precision]
        assert one.dtype == expected, name
    nodes = {node.name for node in model.graph if node.op_type in {"MatMul", "Gemm", "Softmax", "Gelu"}}
    assert len(nodes) > 5
    assert [name for name in nodes if not any(layer.startswith(name) for layer in made.layers)] == []
    assert made.plan[:4].tobytes() == b"vtrt"
    assert made.warnings == ()


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16])
@pytest.mark.parametrize("family", FAMILIES)
def test_an_engine_per_task_of_every_family(rtx, workplace_of, family, precision):
    check(*built(rtx, workplace_of(family), Strategy.PER_TASK, precision), precision)


def smallest_of_each_family() -> dict[str, str]:
    """Models that somebody uses, not those that timm has for its tests; VOLO has a node that TensorRT lacks."""
    with Path(supported.__file__).with_name("supported.csv").open(newline="") as table:
        rows = [row for row in csv.DictReader(table) if not row["name"].startswith("test_") and row["family"] != "VOLO"]
    rows.sort(key=lambda row: float(row["gflops"]), reverse=True)
    return {row["family"]: row["name"] for row in rows}


@pytest.mark.slow
@pytest.mark.skipif("FULL_SIZE_ENGINES" not in os.environ, reason="an hour for all: FULL_SIZE_ENGINES=1")
@pytest.mark.parametrize("family", sorted(smallest_of_each_family()))
def test_an_engine_of_full_size_of_every_family(rtx, workplace_of, family):
    check(
        *built(rtx, workplace_of(smallest_of_each_family()[family]), Strategy.PER_TASK, Precision.FP16), Precision.FP16
    )


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16])
@pytest.mark.parametrize("mixed", [PLAIN, MIXED])
@pytest.mark.parametrize("family", ["vit", "swin"])
def test_one_engine_for_all_tasks(rtx, workplace_of, family, mixed, precision):
    check(*built(rtx, workplace_of(family), Strategy.SHARED, precision, mixed=mixed), precision)


def test_bfloat16(rtx, workplace_of):
    check(*built(rtx, workplace_of("vit"), Strategy.SHARED, Precision.BF16, mixed=True), Precision.BF16)


def test_marked_values_are_outputs(rtx, workplace_of):
    sites = ("blocks.0.mlp", "blocks.1.attn")
    made, _ = built(rtx, workplace_of("vit"), Strategy.PER_TASK, Precision.FP32, marked=sites)
    assert [one.name for one in made.tensors if one.mode == "output"] == ["logits", *sites]


def test_a_build_that_is_stopped_says_so(rtx, workplace_of):
    with pytest.raises(StoppedError, match="Stopped while building"):
        build_engine(
            rtx,
            BuildRequest(workplace_of("vit").merged, RANGES, compute_capabilities=("8.6",)),
            should_stop=lambda: True,
        )


def test_progress_is_told(rtx, workplace_of):
    heard = []
    request = BuildRequest(workplace_of("vit").merged, RANGES, compute_capabilities=("8.6",))
    build_engine(rtx, request, listener=heard.append)
    done = [event.done for event in heard]
    assert len(done) > 10
    assert done == sorted(set(done))
    assert done[-1] == heard[-1].total == 100


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "strategy", "mixed", "precision"),
    [
        ("builtin", Strategy.PER_TASK, PLAIN, Precision.FP32),
        ("builtin", Strategy.SHARED, PLAIN, Precision.FP16),
        ("builtin", Strategy.SHARED, MIXED, Precision.FP32),
        ("swin_tiny_patch4_window7_224", Strategy.PER_TASK, PLAIN, Precision.FP16),
        ("swin_tiny_patch4_window7_224", Strategy.SHARED, PLAIN, Precision.FP32),
        ("swin_tiny_patch4_window7_224", Strategy.SHARED, MIXED, Precision.FP16),
    ],
)
def test_real_backbones(rtx, workplace_of, backbone, strategy, mixed, precision):
    place = workplace_of(backbone)
    made, model = built(rtx, place, strategy, precision, mixed=mixed)
    check(made, model, precision)
    weights = (place.folder / "backbone.weights").stat().st_size
    if precision is Precision.FP32:
        assert made.size_bytes > weights * 0.9
    elif backbone != "builtin":  # whose kernels take as much room as its weights
        assert made.size_bytes < weights * 0.75, "the weights are not half as large"


# What needs a driver: tried, and skipped with what was said.


def skipped_without_driver(error: MimiEdgeError) -> None:
    """Skips where there is no driver, or where the GPU is none of those that were built for; raises what is else."""
    text = str(error)
    if "NVIDIA driver" in text or "no NVIDIA GPU" in text or "another GPU" in text:
        pytest.skip(text.splitlines()[0])
    raise error


def test_the_inspector_sees_the_same(rtx, workplace_of):
    made, _ = built(rtx, workplace_of("vit"), Strategy.PER_TASK, Precision.FP16, layer_details=True)
    try:
        runtime = rtx.runtime()
        engine = rtx.deserialize(runtime, made.plan, "per-task.first.fp16.engine")
    except MimiEdgeError as error:
        skipped_without_driver(error)
        return
    assert rtx.engine_tensors(engine) == made.tensors
    assert rtx.layers(engine)
    assert rtx.device_memory_bytes(engine) > 0


def refit_request(place: Workplace, *capabilities: str) -> BuildRequest:
    names = load_graph(place.merged).graph.initializers
    adapters = frozenset(name for name in names if name.endswith((".down", ".up")) or name.startswith("head."))
    return BuildRequest(place.merged, RANGES, refittable=adapters, compute_capabilities=capabilities)


def test_refittable_engines(rtx, workplace_of):
    request = refit_request(workplace_of("vit"), "8.6")
    try:
        made = build_engine(rtx, request)
        runtime = rtx.runtime()
        engine = rtx.deserialize(runtime, made.plan, "refit.fp32.engine")
    except MimiEdgeError as error:
        skipped_without_driver(error)
        return
    assert set(rtx.refitter(engine).get_all_weights()) == request.refittable


def test_a_refittable_engine_for_several_kinds_of_gpu_is_refused_with_a_reason(rtx, workplace_of):
    """Which of the two reasons comes first is up to chance."""
    with pytest.raises(EngineBuildError, match=r"only for one compute capability|needs a working NVIDIA driver"):
        build_engine(rtx, refit_request(workplace_of("vit"), *CAPABILITIES))


def test_stripped_engines(rtx, workplace_of):
    """Not asked for by any strategy, but what a device could be sent; it needs a driver to be built."""
    place = workplace_of("vit")
    builder = rtx.builder()
    network = rtx.network(builder)
    parser = rtx.parse(network, place.merged)
    config = builder.create_builder_config()
    config.set_flag(rtx.flag("STRIP_PLAN"))
    rtx.set_capabilities(config, CAPABILITIES)
    profile = builder.create_optimization_profile()
    images = network.get_input(0)
    shape = tuple(images.shape)[1:]
    profile.set_shape(images.name, (1, *shape), (8, *shape), (32, *shape))
    config.add_optimization_profile(profile)
    with rtx.listening() as log:
        plan = rtx.build(builder, network, config)
    del parser
    if plan is None:
        skipped_without_driver(explain_build(log, "a stripped engine"))
    assert plan.nbytes < place.folder.joinpath("backbone.weights").stat().st_size
