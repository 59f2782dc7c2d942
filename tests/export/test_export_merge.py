from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import onnx
import onnx_ir as ir
import pytest
from export_samples import (
    FAMILIES,
    assert_close,
    random_images,
    random_task,
    some_neurons,
    task_file,
    tiny_backbone,
    torch_logits,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from mimi_edge.errors import ArtifactError, ConfigError
from mimi_edge.export.graphs import read_graph_info
from mimi_edge.export.merge import merge
from mimi_edge.export.onnx_runtime import open_graph
from mimi_edge.tasks.stores import SCALE, Store
from mimi_edge.tasks.task import HEAD_BIAS, Task

WITHOUT_TORCH = """
import sys
for name in ("torch", "timm", "torchvision", "onnxscript"):
    sys.modules[name] = None
from pathlib import Path
from PIL import Image
from mimi_edge.export.merge import merge
from mimi_edge.export.open_packages import read_package
from mimi_edge.export.packages import create_or_extend
from mimi_edge.export.prediction import predictions
from mimi_edge.export.serving.find import serving
folder = Path(sys.argv[1])
merge(folder / "backbone.onnx", folder / "sample.safetensors", folder / "sample.onnx")
create_or_extend(folder / "package", folder, [folder / "sample.safetensors"])
Image.new("RGB", (40, 50), "red").save(folder / "red.png")
print(next(predictions(serving(folder / "package"), [folder / "red.png"])).label)
"""


def _merged(folder: Path, task: Task):
    return merge(folder / "backbone.onnx", task_file(folder, task), folder / f"{task.header.name}.onnx")


@pytest.mark.parametrize("store", list(Store))
@pytest.mark.parametrize("family", FAMILIES)
def test_merged_graph_answers_what_torch_answers(family, store, exported, tmp_path):
    backbone, graph = exported(family)
    shutil.copytree(graph.folder, tmp_path, dirs_exist_ok=True)
    task = random_task(backbone, some_neurons(backbone), store=store)
    model = open_graph(_merged(tmp_path, task).path)
    for batch in (1, 2, 5):
        images = random_images(batch, seed=batch)
        assert_close(model.run(images), torch_logits(backbone, task, images))


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_any_subset_of_sites_with_any_neurons(data, exported):
    backbone, graph = exported("vit")
    task = random_task(
        backbone,
        {site.name: data.draw(st.integers(0, 4), label=site.name) for site in backbone.sites},
        store=data.draw(st.sampled_from(Store)),
        activation=data.draw(st.sampled_from(["gelu", "relu"])),
        classes=data.draw(st.integers(2, 6)),
        seed=data.draw(st.integers(0, 99)),
    )
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(graph.folder, folder, dirs_exist_ok=True)
        merged = _merged(Path(folder), task)
        images = random_images(2)
        assert_close(open_graph(merged.path).run(images), torch_logits(backbone, task, images))
        kinds = [node.op_type for node in ir.load(merged.path).graph]
        bare = [node.op_type for node in ir.load(graph.path).graph]
    assert kinds.count("MatMul") - bare.count("MatMul") == 2 * len(task.neurons)
    assert merged.neurons == task.neurons


def test_emptied_sites_leave_no_node(workplace):
    backbone, folder = workplace
    bare = [node.op_type for node in ir.load(folder / "backbone.onnx").graph]
    task = random_task(backbone, {})
    merged = _merged(folder, task)
    assert [node.op_type for node in ir.load(merged.path).graph] == [*bare, "Gemm"]
    images = random_images(3)
    assert_close(open_graph(merged.path).run(images), torch_logits(backbone, task, images))


@pytest.mark.parametrize("store", list(Store))
def test_merged_graph_holds_no_weights(workplace, store):
    backbone, folder = workplace
    task = random_task(backbone, some_neurons(backbone), store=store)
    merged = _merged(folder, task)
    model = onnx.load(merged.path, load_external_data=False)
    held = {each.name: each for each in model.graph.initializer}
    assert set(task.tensors) <= set(held)
    for name, tensor in held.items():
        places = {entry.key: entry.value for entry in tensor.external_data}
        if name in task.tensors and store.low_bits and name.removesuffix(SCALE) != HEAD_BIAS:
            assert not places  # unpacked: no operator that every runtime folds could do it
            assert numpy_helper.to_array(tensor).shape == task.tensors[name].shape
        elif name in task.tensors:
            assert places["location"] == "sample.safetensors"
            assert int(places["length"]) == task.tensors[name].nbytes
        elif places:
            assert places["location"] == "backbone.weights"
        else:
            assert len(tensor.raw_data) <= 256
    onnx.checker.check_model(str(merged.path), full_check=True)


def test_description_of_a_merged_graph(workplace):
    backbone, folder = workplace
    task = random_task(backbone, some_neurons(backbone), store=Store.INT8, name="Größe 一")
    merged = _merged(folder, task)
    info = read_graph_info(merged.path)
    assert info == merged.info
    assert info.backbone == backbone.identity
    assert (info.task.name, info.task.classes, info.task.store) == ("Größe 一", task.header.classes, "int8")
    assert merged.size_bytes == merged.path.stat().st_size


def test_same_files_give_the_same_bytes(workplace):
    backbone, folder = workplace
    task = random_task(backbone, some_neurons(backbone), store=Store.FP16)
    first = _merged(folder, task).path.read_bytes()
    assert _merged(folder, task).path.read_bytes() == first


def test_task_of_another_backbone_is_refused_with_both_names(workplace):
    _, folder = workplace
    other = tiny_backbone("vit", seed=7)
    other = replace(other, identity=replace(other.identity, name="stranger"))
    with pytest.raises(ArtifactError, match="stranger") as caught:
        _merged(folder, random_task(other, some_neurons(other)))
    assert "tiny vit" in str(caught.value)
    assert not (folder / "sample.onnx").exists()


def test_task_that_does_not_fit_its_own_backbone_is_refused_with_every_fault(workplace):
    backbone, folder = workplace
    strange = tuple(
        replace(site, name=site.name.replace("blocks.1", "blocks.9"), width=site.width + 8) for site in backbone.sites
    )
    identity = replace(backbone.identity, features=backbone.identity.features + 1)
    preprocessing = replace(backbone.preprocessing, size=16)
    task = random_task(
        replace(backbone, sites=strange, identity=identity, preprocessing=preprocessing),
        {"blocks.0.attn": 2, "blocks.9.mlp": 1},
    )
    with pytest.raises(ArtifactError) as caught:
        _merged(folder, task)
    for part in ("blocks.9.mlp is not in the graph", "width 32, the task 40", "33", "16 px"):
        assert part in str(caught.value)


def test_only_a_bare_backbone_can_be_merged_into(workplace):
    backbone, folder = workplace
    task = random_task(backbone, {})
    merged = _merged(folder, task)
    with pytest.raises(ArtifactError, match="already has task"):
        merge(merged.path, folder / "sample.safetensors", folder / "twice.onnx")


def test_truncated_or_altered_task_files_are_refused(workplace):
    backbone, folder = workplace
    path = task_file(folder, random_task(backbone, some_neurons(backbone)))
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[: len(whole) // 2], whole[:5], b"", b"\0" * 100, whole.replace(b"gelu", b"silu")):
        path.write_bytes(damaged)
        with pytest.raises(ArtifactError):
            merge(folder / "backbone.onnx", path, folder / "sample.onnx")
    assert not (folder / "sample.onnx").exists()


def test_damaged_backbone_graph_is_refused(workplace):
    backbone, folder = workplace
    path = task_file(folder, random_task(backbone, {}))
    whole = (folder / "backbone.onnx").read_bytes()
    newer = onnx.load(folder / "backbone.onnx", load_external_data=False)
    newer.metadata_props[0].value = newer.metadata_props[0].value.replace('"format":1', '"format":2')
    foreign = onnx.load(folder / "backbone.onnx", load_external_data=False)
    del foreign.metadata_props[:]
    for damaged in (whole[:-7], b"", b"no graph", newer.SerializeToString(), foreign.SerializeToString()):
        (folder / "backbone.onnx").write_bytes(damaged)
        with pytest.raises(ArtifactError):
            merge(folder / "backbone.onnx", path, folder / "sample.onnx")
    (folder / "backbone.onnx").unlink()
    with pytest.raises(ArtifactError, match="Cannot read"):
        merge(folder / "backbone.onnx", path, folder / "sample.onnx")


def test_files_must_lie_together(workplace, tmp_path):
    backbone, folder = workplace
    elsewhere = task_file(tmp_path, random_task(backbone, {}))
    with pytest.raises(ConfigError, match="one folder"):
        merge(folder / "backbone.onnx", elsewhere, folder / "sample.onnx")


def test_merging_packaging_and_predicting_need_no_torch(workplace):
    backbone, folder = workplace
    task_file(folder, random_task(backbone, some_neurons(backbone), store=Store.INT8))
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, str(folder)], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("class ")
    assert done.stderr == ""


@pytest.mark.parametrize("store", list(Store))
def test_stored_weights_are_turned_into_fp32_once_when_a_graph_is_loaded(workplace, store):
    """A cast at every run would be work that grows with the task; ONNX Runtime folds it while it loads."""
    onnxruntime = pytest.importorskip("onnxruntime")
    backbone, folder = workplace
    merged = _merged(folder, random_task(backbone, some_neurons(backbone), store=store))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(folder / "as_run.onnx")
    onnxruntime.InferenceSession(str(merged.path), options, providers=["CPUExecutionProvider"])
    run = onnx.load(folder / "as_run.onnx", load_external_data=False).graph
    computed = {name for node in run.node for name in node.output}
    weights = {tensor.name: tensor.data_type for tensor in run.initializer}
    assert not [node.name for node in run.node if node.op_type == "Cast"]
    products = [node for node in run.node if node.op_type in {"MatMul", "Gemm"} and node.input[1] not in computed]
    assert products
    assert {weights[node.input[1]] for node in products} == {onnx.TensorProto.FLOAT}
