from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from export_samples import FAMILIES, random_images
from hypothesis import given
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator
from precision_samples import merged, relative_difference

from mimi_edge.choices import Precision
from mimi_edge.errors import ConfigError
from mimi_edge.events import Advance
from mimi_edge.export.engine_graphs import engine_graph
from mimi_edge.export.engine_passes import tune
from mimi_edge.export.graph_files import save_graph
from mimi_edge.export.graphs import load_graph
from mimi_edge.export.onnx_runtime import open_graph
from mimi_edge.export.precision.quantise import (
    SMALLEST_SCALE,
    accuracy_drop,
    int8_verdict,
    quantised_model,
)
from mimi_edge.tasks.stores import Store

TOLERANCE = 0.1
"""One rounding to 8 bits is off by up to 1/254 of the largest number, so by several percent of a typical one; two or
three blocks of four products add up to less than this. A scale of the wrong channel is off by far more."""


def quantise(graph, out, images, **options):
    """The INT8 form of a graph in a file beside it."""
    model, layers = quantised_model(graph, images, **options)
    save_graph(model, out)
    return layers


@pytest.fixture
def graph(exported, tmp_path):
    return merged(exported, tmp_path)


def _pairs(model: ir.Model) -> dict[str, ir.Node]:
    """The quantising node before each product's input, by the product's name and the input's number."""
    return {
        f"{node.name}:{index}": value.producer().inputs[0].producer()
        for node in model.graph
        for index, value in enumerate(node.inputs)
        if value is not None and value.producer() is not None and value.producer().op_type == "DequantizeLinear"
    }


@pytest.mark.parametrize("rest", [Precision.FP32, Precision.FP16])
@pytest.mark.parametrize("family", FAMILIES)
def test_int8_graph_answers_about_what_the_fp32_graph_answers(family, rest, exported, tmp_path):
    path = merged(exported, tmp_path, family, Store.FP16)
    images = random_images(16)
    out = tmp_path / "int8.onnx"
    layers = quantise(path, out, images, rest=rest)
    onnx.checker.check_model(str(out), full_check=True)
    # Pair by pair, as the graph says: the integer kernels that ONNX Runtime fuses them into round otherwise.
    unfused = onnxruntime.SessionOptions()
    unfused.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    session = onnxruntime.InferenceSession(str(out), unfused, providers=["CPUExecutionProvider"])
    got, expected = session.run(None, {"images": images})[0], open_graph(path).run(images)
    assert got.dtype == np.float32
    assert 1e-4 < relative_difference(got, expected) <= TOLERANCE
    assert (layers.rest, layers.images) == (rest, 16)
    assert bool(layers.kept) == (rest is Precision.FP16)
    # Whatever else uses a product's input, such as Swin V2's residual stream, gets it exact.
    assert set(_pairs(load_graph(out))) == {f"{name}:{index}" for name in layers.quantised for index in (0, 1)}


def test_int8_with_bf16_answers_in_the_reference_implementation(graph, tmp_path):
    """ONNX Runtime has no bf16 kernels for a CPU."""
    images = random_images(8)
    out = tmp_path / "int8.onnx"
    quantise(graph, out, images, rest=Precision.BF16)
    onnx.checker.check_model(str(out), full_check=True)
    got = ReferenceEvaluator(onnx.load(out)).run(None, {"images": images})[0]
    assert relative_difference(got, open_graph(graph).run(images)) <= TOLERANCE


@pytest.mark.parametrize("store", list(Store))
def test_products_with_the_backbones_weights_are_quantised_and_no_others(store, exported, tmp_path):
    model, layers = quantised_model(merged(exported, tmp_path, "vit", store), random_images(2))
    # The patch embedding, and four products in each of two blocks.
    assert len(layers.quantised) == 9
    assert set(_pairs(model)) == {f"{name}:{index}" for name in layers.quantised for index in (0, 1)}
    assert "head" in layers.left
    sites = [name for name in layers.left if name != "head"]
    assert sites
    assert all(name.endswith((".into", ".out_of")) for name in sites)
    assert not set(layers.left) & set(layers.quantised)


@pytest.mark.parametrize("store", list(Store))
def test_adapters_and_head_are_left_alone_in_a_graph_made_ready_for_an_engine(store, exported, tmp_path):
    path = merged(exported, tmp_path, "swin", store)
    model = load_graph(path)
    tune(model)
    images = random_images(8)
    with engine_graph(model, tmp_path) as ready:
        quantised, layers = quantised_model(ready, images)
        assert "head" in layers.left
        assert any(name.endswith(".out_of") for name in layers.left)
        assert not [name for name in layers.quantised if name.endswith((".into", ".out_of", "head"))]
        with engine_graph(quantised, tmp_path) as int8:
            got = open_graph(int8).run(images)
    assert relative_difference(got, open_graph(path).run(images)) <= TOLERANCE


def test_weights_stay_float_in_their_file_and_have_a_scale_for_each_channel(graph):
    model, layers = quantised_model(graph, random_images(4), rest=Precision.FP16)
    pairs = _pairs(model)
    for name in layers.quantised:
        product = next(node for node in model.graph if node.name == name)
        quantising = pairs[f"{name}:1"]
        weight, scale, zero = quantising.inputs
        assert isinstance(weight.const_value, ir.ExternalTensor)
        assert weight.const_value.location == "backbone.weights"
        channels = weight.shape[0 if product.op_type == "Conv" else 1]
        assert tuple(scale.shape) == (channels,)
        assert not zero.const_value.numpy().any()
        # Weights are quantised from fp32; what the product sees is half.
        assert scale.dtype is ir.DataType.FLOAT
        assert product.inputs[1].dtype is product.inputs[0].dtype is ir.DataType.FLOAT16
        assert pairs[f"{name}:0"].inputs[1].const_value.numpy().shape == ()
        assert all(value.dtype is not ir.DataType.INT32 for value in product.inputs)


def test_scales_and_what_divides_by_them_stay_finite_in_fp16(graph):
    model = load_graph(graph)
    weight = next(node for node in model.graph if node.op_type == "MatMul").inputs[1]
    array = np.array(weight.const_value.numpy())
    array[:, 3] = 0
    array[:, 4] = 1e-9
    weight.const_value = ir.Tensor(array, name=weight.name)
    path = graph.with_name("zeros.onnx")
    ir.save(model, path)
    images = random_images(8)
    out = graph.with_name("int8.onnx")
    quantise(path, out, images)
    assert relative_difference(open_graph(out).run(images), open_graph(path).run(images)) <= TOLERANCE
    pairs = [node for node in load_graph(out).graph if node.op_type in {"QuantizeLinear", "DequantizeLinear"}]
    scales = np.concatenate([node.inputs[1].const_value.numpy().astype(np.float64).ravel() for node in pairs])
    assert scales.min() >= SMALLEST_SCALE
    assert np.isfinite((1 / scales).astype(np.float16)).all()


def test_same_graph_and_images_give_the_same_bytes_and_leave_the_graph_alone(graph):
    before, files = graph.read_bytes(), {path.name for path in graph.parent.iterdir()}
    written = []
    for name in ("one.onnx", "two.onnx"):
        quantise(graph, graph.with_name(name), random_images(3))
        written.append(graph.with_name(name).read_bytes())
    assert written[0] == written[1]
    # Scales, but no weights: those are 226 kB in the backbone's file.
    assert len(written[0]) < 50_000
    assert graph.read_bytes() == before
    assert {path.name for path in graph.parent.iterdir()} == files | {"one.onnx", "two.onnx"}


def test_values_that_the_rest_cannot_hold_are_kept(graph):
    name = "blocks.0.mlp"
    _, layers = quantised_model(graph, random_images(2), keep={name: "overflow: 81234 > 65504 / 4"})
    kept = [layer for layer in layers.kept if layer.reason.startswith("overflow")]
    assert "Add" in {layer.op_type for layer in kept}


def test_calibration_says_how_far_it_is(graph):
    heard = []
    quantised_model(graph, random_images(10), listener=heard.append)
    assert heard == [Advance("calibrate INT8", done, 10) for done in (0, 8, 10)]


def test_other_inputs_of_a_graph_need_values(graph):
    model = load_graph(graph)
    model.graph.inputs.append(ir.Value(name="task", shape=ir.Shape([1]), type=ir.TensorType(ir.DataType.INT64)))
    path = graph.with_name("more.onnx")
    ir.save(model, path)
    with pytest.raises(ConfigError, match="give values for task"):
        quantised_model(path, random_images(1))
    quantised_model(path, random_images(1), feeds={"task": np.zeros(1, np.int64)})


def test_what_makes_no_sense_is_refused(graph):
    with pytest.raises(ConfigError, match="training images"):
        quantised_model(graph, random_images(0))
    with pytest.raises(ConfigError, match="got int8"):
        quantised_model(graph, random_images(1), rest=Precision.INT8)


@dataclass(frozen=True)
class _Ratio:
    value: float
    low: float
    high: float


@pytest.mark.parametrize(
    ("ratio", "drop", "offered", "words"),
    [
        (_Ratio(0.6, 0.58, 0.62), 0.002, True, "at least as fast: 0.600 of the time (0.580 to 0.620)"),
        (_Ratio(1.0, 0.99, 1.01), 0.01, True, "at least as fast"),
        (_Ratio(1.01, 0.99, 1.03), 0.0, True, "no difference in speed seen"),
        (_Ratio(1.2, 1.1, 1.3), 0.0, False, "slower: 1.200 of the time"),
        (_Ratio(0.6, 0.5, 0.7), 0.0101, False, "more than the 0.0100 allowed"),
        (None, 0.0, True, "speed not measured: no GPU"),
        (None, 0.5, False, "accuracy drops by 0.5000"),
        (None, float("nan"), False, "more than"),
        (None, -0.02, True, "within the 0.0100 allowed"),
    ],
)
def test_int8_is_offered_where_it_is_as_fast_and_hardly_less_accurate(ratio, drop, offered, words):
    verdict = int8_verdict(ratio, drop, 0.01)
    assert verdict.offered is offered
    assert words in "; ".join(verdict.reasons)


@given(right=st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_drop_counts_images_that_are_no_longer_right(right):
    labels = np.zeros(len(right), np.int64)
    before, after = (np.array([[float(pair[side]), 0.5] for pair in right], np.float32) for side in (0, 1))
    lost = sum(pair[0] for pair in right) - sum(pair[1] for pair in right)
    assert accuracy_drop(before, after, labels) == pytest.approx(lost / len(right))


def test_drop_wants_logits_of_the_same_images():
    logits = np.zeros((3, 2), np.float32)
    for arguments in ((logits, logits[:2], np.zeros(3)), (logits, logits, np.zeros(2)), (logits[:0],) * 2 + ([],)):
        with pytest.raises(ConfigError, match="need logits"):
            accuracy_drop(*arguments)
