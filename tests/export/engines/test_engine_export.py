"""From a package to proven engines on its shelf, on fakes that really compute; and refused where they answer wrong."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import fake_runtime
import numpy as np
import pytest
from export_samples import random_images, random_task, task_file, torch_logits

from mimi_edge.choices import Backend, Precision, Strategy
from mimi_edge.errors import ArtifactError, ConfigError, ExportMismatchError
from mimi_edge.events import Note
from mimi_edge.export.engines.building import work as building_work
from mimi_edge.export.engines.building.requests import BatchRange
from mimi_edge.export.engines.building.work import EngineOptions, TaskImages
from mimi_edge.export.engines.export import export_engines
from mimi_edge.export.engines.proof import prove_engine, proven
from mimi_edge.export.engines.proof.attention import attention_kernels
from mimi_edge.export.engines.shelf.shelf import read_shelf
from mimi_edge.export.open_packages import read_package
from mimi_edge.export.packages import create_or_extend
from mimi_edge.export.serving.find import serving
from mimi_edge.images.decode import LabelledImages
from mimi_edge.tasks.files import read_task
from mimi_edge.tasks.stores import Store

TASKS = {"few": 3, "many": 7}
STRATEGIES = [(Strategy.PER_TASK, False), (Strategy.SHARED, False), (Strategy.SHARED, True), (Strategy.REFIT, False)]


@pytest.fixture(scope="module")
def packaged(exported, tmp_path_factory):
    """A package of the tiny Swin with two very different tasks; the first block has no adapter."""
    backbone, graph = exported("swin")
    folder = tmp_path_factory.mktemp("packaged")
    files = []
    for seed, (name, classes) in enumerate(TASKS.items()):
        neurons = {site.name: (index + seed) * 3 % 7 for index, site in enumerate(backbone.sites)}
        neurons |= dict.fromkeys([site.name for site in backbone.sites[:2]], 0)
        task = random_task(backbone, neurons, store=Store.FP16, classes=classes, name=name, seed=seed)
        files.append(task_file(folder, task))
    create_or_extend(folder / "package", graph.folder, files)
    return backbone, folder / "package"


@pytest.fixture
def package(packaged, tmp_path):
    backbone, folder = packaged
    shutil.copytree(folder, tmp_path / "package")
    return backbone, read_package(tmp_path / "package")


@pytest.fixture
def machine(monkeypatch):
    """A GPU that loses nothing: what was taken of it was given back."""
    made = fake_runtime.install(monkeypatch)
    yield made
    made.gpu.check()


def grey_levels(name):
    return np.random.default_rng(len(name)).integers(0, 256, (6, 32, 32, 3), np.uint8)


def images_of(name):
    labels = np.zeros(6, np.int64)
    return TaskImages(lambda: grey_levels(name), lambda: LabelledImages(grey_levels(name), labels), lambda: None)


@pytest.mark.parametrize(("strategy", "mixed"), STRATEGIES)
def test_engines_answer_as_torch_does_and_say_so(package, machine, strategy, mixed):
    backbone, folder = package[0], package[1].folder
    options = EngineOptions(Precision.FP32, strategy, BatchRange(1, 2, 4), mixed=mixed)
    made = export_engines(package[1], options)
    assert len(made) == (len(TASKS) if strategy is Strategy.PER_TASK else 1)
    assert read_shelf(folder).keys() == {one.name for one in made}
    proven = {name: found for one in made for name, found in one.sidecar.check["outputs"].items()}
    assert proven.keys() == TASKS.keys()
    assert all(found["same_top1"] == found["images"] for found in proven.values())
    assert {one.sidecar.prefix_blocks for one in made} == {1 if mixed else 0}
    switched = strategy is not Strategy.PER_TASK and not mixed
    assert all(("switch" in one.sidecar.check) == switched for one in made)
    images = random_images(5)
    for task in serving(folder, backend=Backend.TRT).served():
        expected = torch_logits(backbone, read_task(folder / f"{task.name}.safetensors"), images)
        got = task.run(images)
        assert got.shape == (5, TASKS[task.name])
        assert np.abs(got - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize(("strategy", "mixed"), STRATEGIES)
def test_half_precision_keeps_what_it_must_and_looks_at_training_images(package, machine, strategy, mixed):
    options = EngineOptions(Precision.FP16, strategy, BatchRange(1, 2, 4), mixed=mixed)
    one = export_engines(package[1], options, images=images_of)[0]
    assert "softmax" in one.sidecar.kept_fp32.values()
    assert (
        "6 training images of 1 task" in one.sidecar.check["overflow_looked_for_on"]
        or "12 training images of 2" in (one.sidecar.check["overflow_looked_for_on"])
    )
    dtypes = {tensor.name: tensor.dtype for tensor in one.sidecar.tensors}
    assert dtypes.pop("images") == dtypes.pop("logits") == "float32"
    assert set(dtypes.values()) <= {"float16", "int32"}


def test_a_task_that_fits_needs_no_new_engine_and_one_that_does_not_is_told(package, machine, tmp_path):
    backbone, opened = package
    export_engines(opened, EngineOptions(Precision.FP32, Strategy.SHARED, spare_neurons=1, spare_classes=1))
    folder = opened.folder
    fits = random_task(backbone, {backbone.sites[-1].name: 2}, classes=8, name="new", seed=9)
    wide = random_task(backbone, {backbone.sites[-1].name: 30}, classes=4, name="wide", seed=9)
    files = [task_file(tmp_path, fits), task_file(tmp_path, wide)]
    create_or_extend(folder, None, files)
    images = random_images(2)
    expected = torch_logits(backbone, fits, images)
    for task in serving(folder, ["new"], backend=Backend.TRT).served():
        assert np.abs(task.run(images) - expected).max() <= 1e-4 * np.abs(expected).max()
    with pytest.raises(
        ConfigError,
        match=r"(?s)no trt engine for wide.*site .* the task has 30 neurons, the graph has room for.*Build one",
    ):
        serving(folder, ["wide"], backend=Backend.TRT)


def test_a_wrong_engine_is_refused_with_the_layer_and_the_good_one_stays(package, machine, monkeypatch):
    opened = package[1]
    options = EngineOptions(Precision.FP32)
    before = export_engines(opened, options, tasks=["many"])[0]
    broken = package[0].sites[3].name
    real = building_work.typed

    def damaged(draft, *arguments, **keywords):
        graph = real(draft, *arguments, **keywords)
        node = next(node for node in graph.model.graph for value in node.outputs if value.name == f"{broken}.adapted")
        node.replace_input_with(1, node.inputs[0])
        return graph

    monkeypatch.setattr(building_work, "typed", damaged)
    with pytest.raises(ExportMismatchError, match=f"first wrong layer is {broken}.adapted"):
        export_engines(opened, options, tasks=["many"])
    assert read_shelf(opened.folder)[before.name].sidecar == before.sidecar


def test_int8_that_loses_too_much_or_is_slower_is_not_offered(package, machine, monkeypatch):
    opened = package[1]
    options = EngineOptions(Precision.INT8, max_accuracy_drop=1.0)
    ratio = type("Ratio", (), {"value": 0.8, "low": 0.7, "high": 0.9})()
    made = export_engines(opened, options, tasks=["few"], images=images_of, speed=lambda *_: ratio)[0]
    assert any("at least as fast" in reason for reason in made.sidecar.check["int8"])
    slower = type("Ratio", (), {"value": 1.3, "low": 1.2, "high": 1.4})()
    with pytest.raises(ExportMismatchError, match=r"not worth having.*slower"):
        export_engines(opened, options, tasks=["few"], images=images_of, speed=lambda *_: slower)
    monkeypatch.setattr(prove_engine, "accuracy_drop", lambda *_: 0.2)
    with pytest.raises(ExportMismatchError, match=r"drops by 0\.2000"):
        export_engines(opened, replace(options, max_accuracy_drop=0.1), tasks=["few"], images=images_of)


def test_int8_leaves_adapters_and_head_alone(package, machine):
    opened = package[1]
    draft = building_work.drafted(opened, ["many"], Strategy.PER_TASK, precision=Precision.INT8)
    graph = building_work.typed(draft, opened, Precision.INT8, {"many": grey_levels("many")})
    task = read_task(opened.task("many").task_file)
    touched = {
        value.name
        for node in graph.model.graph
        if node.op_type == "QuantizeLinear"
        for value in node.inputs
        if value is not None
    }
    assert touched
    assert not touched & set(task.tensors)


def test_contradictions_are_listed_together():
    with pytest.raises(ConfigError, match=r"(?s)mixed batches.*room for other tasks"):
        EngineOptions(mixed=True, spare_neurons=1)


def test_without_a_gpu_the_sidecar_says_that_nothing_ran(package, monkeypatch):
    """TensorRT for RTX builds here for real."""
    opened = package[1]
    options = EngineOptions(Precision.FP16, backend=Backend.TRT_RTX, compute_capabilities=("8.6", "12.0"))
    (one,) = export_engines(opened, options, tasks=["few"])
    assert one.sidecar.check["outputs"].startswith("not run: ")
    assert one.sidecar.compute_capabilities == ("8.6", "12.0")
    assert (one.sidecar.gpu, one.sidecar.backend) == (None, Backend.TRT_RTX)
    with pytest.raises(ConfigError, match=r"--compute-capability"):
        export_engines(opened, replace(options, compute_capabilities=()), tasks=["few"])


def test_an_engine_from_elsewhere_needs_trust(package, machine, tmp_path):
    opened = package[1]
    (one,) = export_engines(opened, EngineOptions(Precision.FP32), tasks=["few"])
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(one.path.parent, elsewhere)
    (elsewhere / "manifest.json").unlink()
    foreign = elsewhere / one.path.name
    with pytest.raises(ArtifactError, match=r"--trust"):
        next(serving(opened.folder, ["few"], engine=foreign).served())
    (task,) = serving(opened.folder, ["few"], engine=foreign, trust=True).served()
    assert task.name == "few"


def test_an_engine_of_a_task_that_changed_is_not_used(package, machine, tmp_path):
    backbone, opened = package
    export_engines(opened, EngineOptions(Precision.FP32), tasks=["few"])
    again = random_task(backbone, {backbone.sites[0].name: 1}, classes=3, name="few", seed=77)
    create_or_extend(opened.folder, None, [task_file(Path(tmp_path), again)])
    said = []
    with pytest.raises(ConfigError, match="no trt engine for few"):
        serving(opened.folder, ["few"], backend=Backend.TRT, listener=lambda event: said.append(event.text))
    assert "before the task few changed" in said[0]


# Softmax in fp32 or not, by measurement.

HALF = EngineOptions(Precision.FP16, Strategy.PER_TASK, BatchRange(1, 1, 2))


def timed(ratio):
    """What times two functions in turns: it runs both, and finds this."""

    def speed(measured, reference):
        measured(), reference()
        return SimpleNamespace(value=ratio, low=ratio - 0.01, high=ratio + 0.01)

    return speed


def softmaxes_in_fp32(engine):
    return sum(reason == "softmax" for reason in engine.sidecar.kept_fp32.values())


@pytest.mark.parametrize(("ratio", "kept"), [(0.5, "fp16"), (0.995, "fp32"), (1.3, "fp32")])
def test_softmax_is_computed_in_the_form_that_is_seen_to_be_faster(package, machine, ratio, kept):
    (made,) = export_engines(package[1], HALF, tasks=["few"], images=images_of, speed=timed(ratio))
    said = made.sidecar.check["softmax"]
    blocks = said["attention_kernels"]["fp16"]
    assert blocks > 0
    assert said["attention_kernels"] == {"fp32": 0, "fp16": blocks}
    assert (said["computes_in"], said["why"].startswith(f"fp16 / fp32 took {ratio:.3f}")) == (kept, True)
    assert softmaxes_in_fp32(made) == (0 if kept == "fp16" else blocks)


def test_a_form_that_answers_wrong_is_not_kept_however_fast(package, machine, monkeypatch):
    def proof(work, draft, graph, built):
        if not any(layer.op_type == "Softmax" for layer in graph.kept):
            raise ExportMismatchError("fused attention is wrong here")
        return prove_engine.proof_of(work, draft, graph, built)

    monkeypatch.setattr(proven, "proof_of", proof)
    (made,) = export_engines(package[1], HALF, tasks=["few"], images=images_of, speed=timed(0.1))
    assert made.sidecar.check["softmax"]["computes_in"] == "fp32"
    assert "does not answer" in made.sidecar.check["softmax"]["why"]


def test_without_times_softmax_stays_in_fp32_and_that_is_said(package, machine):
    (made,) = export_engines(package[1], HALF, tasks=["few"], images=images_of)
    assert made.sidecar.check["softmax"]["why"].startswith("the default, not measured")
    assert softmaxes_in_fp32(made) > 0


@pytest.mark.parametrize(
    ("layers", "count"),
    [
        (["{ForeignNode[blocks.0]}", "_gemm_mha_v2_myl0"], 1),
        ([{"Name": "__myl_Fc", "TacticName": "sm90_xmma_gemm_f16f16"}, {"Name": "x", "TacticName": "fmha_cutlass"}], 1),
        ([{"Name": "/attn/Softmax", "TacticName": "__myl_MaxSubExp_0x12"}], 0),
    ],
)
def test_attention_kernels_are_counted_by_what_they_are_called(layers, count):
    assert attention_kernels(layers) == count


# What is not proved.


def test_an_engine_that_nobody_could_compare_says_so_loudly(package, machine, monkeypatch):
    monkeypatch.setattr(prove_engine, "runtime_version", lambda: None)
    heard = []
    options = EngineOptions(Precision.FP32, Strategy.PER_TASK, BatchRange(1, 1, 2))
    (made,) = export_engines(package[1], options, tasks=["few"], listener=heard.append)
    assert "ONNX Runtime" in made.sidecar.unproved
    assert any("NOT PROVED" in event.text for event in heard if isinstance(event, Note))
    again = []
    for task in serving(package[1].folder, ["few"], backend=Backend.TRT, listener=again.append).served():
        task.run(random_images(1))
    assert any("NOT PROVED" in event.text for event in again if isinstance(event, Note))


def test_a_proved_engine_says_nothing_of_that(package, machine):
    (made,) = export_engines(package[1], replace(HALF, precision=Precision.FP32), tasks=["few"])
    assert made.sidecar.unproved is None


def test_padded_classes_keep_no_head_in_fp32(package, machine):
    """The logit of a class that a task does not have is the lowest that fp16 holds, and no range."""
    (made,) = export_engines(package[1], replace(HALF, strategy=Strategy.SHARED), images=images_of)
    assert not [reason for reason in made.sidecar.kept_fp32.values() if "overflow" in reason]


@pytest.mark.gpu
@pytest.mark.trt
@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16])
@pytest.mark.parametrize(("strategy", "mixed"), STRATEGIES)
def test_on_a_gpu_every_strategy_is_proven_and_answers(package, strategy, mixed, precision):
    backbone, opened = package
    options = EngineOptions(precision, strategy, BatchRange(1, 2, 4), mixed=mixed, backend=Backend.TRT)
    made = export_engines(opened, options, images=images_of)
    proven = {name: found for one in made for name, found in one.sidecar.check["outputs"].items()}
    assert proven.keys() == TASKS.keys()
    assert all(one.sidecar.gpu for one in made)
    images = random_images(5)
    tolerance = 1e-3 if precision is Precision.FP32 else 2e-2
    for task in serving(opened.folder, backend=Backend.TRT).served():
        expected = torch_logits(backbone, read_task(opened.folder / f"{task.name}.safetensors"), images)
        assert np.abs(task.run(images) - expected).max() <= tolerance * np.abs(expected).max()
