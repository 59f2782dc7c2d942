from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from export_samples import FAMILIES, random_images
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import parser
from onnx.reference import ReferenceEvaluator
from precision_samples import merged, relative_difference, saved, tolerance

from mimi_edge.choices import Precision
from mimi_edge.errors import ConfigError
from mimi_edge.export.engine_graphs import engine_graph
from mimi_edge.export.engine_passes import tune
from mimi_edge.export.graphs import load_graph
from mimi_edge.export.onnx_runtime import open_graph
from mimi_edge.export.precision.half import KeptLayer, to_half
from mimi_edge.tasks.stores import Store

FP32, FP16 = ir.DataType.FLOAT, ir.DataType.FLOAT16
HEADER = '<ir_version: 10, opset_import: ["" : 20]>\n'


def _model(text: str) -> ir.Model:
    return ir.from_proto(parser.parse_model(HEADER + text))


def _kinds(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def _external(path) -> dict[str, tuple[str, int]]:
    tensors = [value.const_value for value in ir.load(path).graph.initializers.values()]
    return {each.name: (each.location, each.offset) for each in tensors if isinstance(each, ir.ExternalTensor)}


@pytest.mark.parametrize("store", list(Store))
@pytest.mark.parametrize("family", FAMILIES)
def test_fp16_graph_answers_what_the_fp32_graph_answers(family, store, exported, tmp_path):
    path = merged(exported, tmp_path, family, store)
    model = load_graph(path)
    to_half(model, Precision.FP16)
    half = saved(model, tmp_path / "half.onnx")
    onnx.checker.check_model(str(half), full_check=True)
    for batch in (1, 3):
        images = random_images(batch)
        got, expected = open_graph(half).run(images), open_graph(path).run(images)
        assert got.dtype == np.float32
        assert relative_difference(got, expected) <= tolerance(Precision.FP16)
        # Something was rounded: this is not the fp32 graph again.
        assert relative_difference(got, expected) > 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_bf16_graph_answers_what_the_fp32_graph_answers(family, exported, tmp_path):
    """In ONNX's reference implementation: ONNX Runtime has no bf16 for MatMul and Expand on a CPU."""
    path = merged(exported, tmp_path, family)
    model = load_graph(path)
    kept = to_half(model, Precision.BF16)
    half = saved(model, tmp_path / "half.onnx")
    onnx.checker.check_model(str(half), full_check=True)
    images = random_images(2)
    got = ReferenceEvaluator(onnx.load(half)).run(None, {"images": images})[0]
    assert relative_difference(got, open_graph(path).run(images)) <= tolerance(Precision.BF16)
    assert [layer.reason for layer in kept if layer.op_type == "Conv"] == ["opset 20 knows no bfloat16 here"]


@pytest.mark.parametrize("store", list(Store))
@pytest.mark.parametrize("family", FAMILIES)
def test_weights_stay_in_their_files_behind_one_cast_each(family, store, exported, tmp_path):
    path = merged(exported, tmp_path, family, store)
    model = load_graph(path)
    kernels = {value.name for node in model.graph if node.op_type == "Conv" for value in node.inputs[1:] if value}
    to_half(model, Precision.FP16)
    half = saved(model, tmp_path / "half.onnx")
    expected = {name: place for name, place in _external(path).items() if name not in kernels}
    assert _external(half) == expected
    embedded = sum(model.graph.initializers[f"{name}.fp16"].const_value.nbytes for name in kernels)
    assert half.stat().st_size < 2 * path.stat().st_size + embedded
    casts = Counter(node.inputs[0].name for node in model.graph if node.op_type == "Cast")
    assert set(casts.values()) == {1}
    for value in model.graph.initializers.values():
        users = {use.node.op_type for use in value.uses()}
        # An fp32 weight is used by its cast and by layers that stay in fp32, by nothing else.
        if value.dtype is FP32:
            assert users <= {"Cast", "Mul", "LayerNormalization", "Clip"}
        if value.dtype is FP16:
            assert "Cast" not in users


@pytest.mark.parametrize("family", FAMILIES)
def test_graph_made_ready_for_an_engine_answers_the_same_in_fp16(family, exported, tmp_path):
    path = merged(exported, tmp_path, family, Store.INT8)
    model = load_graph(path)
    tune(model)
    to_half(model, Precision.FP16)
    images = random_images(3)
    with engine_graph(model, tmp_path) as half:
        onnx.checker.check_model(str(half), full_check=True)
        got = open_graph(half).run(images)
    assert relative_difference(got, open_graph(path).run(images)) <= tolerance(Precision.FP16)


def test_every_float_between_input_and_output_has_one_of_the_two_types(exported, tmp_path):
    model = load_graph(merged(exported, tmp_path))
    to_half(model, Precision.FP16)
    (images,), (logits,) = model.graph.inputs, model.graph.outputs
    assert (images.name, images.dtype, logits.name, logits.dtype) == ("images", FP32, "logits", FP32)
    assert logits.shape == ir.Shape(["batch", 5])
    types = {node.op_type: node.outputs[0].dtype for node in model.graph if node.op_type != "Cast"}
    assert {types[kind] for kind in ("MatMul", "Gemm", "Conv", "Gelu", "Add", "Transpose")} == {FP16}
    assert {types[kind] for kind in ("Softmax", "LayerNormalization")} == {FP32}


@pytest.mark.parametrize("family", FAMILIES)
def test_kernels_are_constants_in_the_graphs_own_precision(exported, tmp_path, family):
    """TensorRT 10.3 does not look for a kernel's size behind a cast."""
    model = load_graph(merged(exported, tmp_path, family))
    had = set(model.graph.initializers)
    to_half(model, Precision.FP16)
    for node in (node for node in model.graph if node.op_type == "Conv"):
        for value in node.inputs[1:]:
            assert value is None or (value.producer(), value.const_value.dtype) == (None, FP16)
    assert all(value.uses() for name, value in model.graph.initializers.items() if name in had)


def test_kept_layers_are_named_with_their_reasons(exported, tmp_path):
    model = load_graph(merged(exported, tmp_path, "swinv2"))
    kept = to_half(model, Precision.FP16)
    assert Counter((layer.op_type, layer.reason) for layer in kept) == {
        ("LayerNormalization", "normalisation"): 9,
        ("Softmax", "softmax"): 3,
        ("ReduceL2", "reduction"): 6,
        ("Clip", "constant: 1e-12 would become 0"): 6,
        ("Div", "division"): 6,
        ("ReduceMean", "reduction"): 1,
    }
    assert kept[0] == KeptLayer("node_layer_norm", "LayerNormalization", "normalisation")


def test_operators_kept_in_fp32_can_be_chosen(exported, tmp_path):
    model = load_graph(merged(exported, tmp_path))
    kept = to_half(model, Precision.FP16, fp32_operators={"LayerNormalization": "tried"})
    assert {layer.reason for layer in kept} == {"tried"}


def test_vanishing_norm_is_no_division_by_zero():
    """What Swin V2 does to a query of zeros."""
    text = """
    g (float[b, 4] images) => (float[b, 4] logits)
    <float least = {1e-12}, int64[1] axis = {1}>
    { norm = ReduceL2(images, axis) safe = Clip(norm, least) logits = Div(images, safe) }
    """
    model = _model(text)
    assert len(to_half(model, Precision.FP16)) == 3
    zeros = np.zeros((1, 4), np.float32)
    np.testing.assert_array_equal(ReferenceEvaluator(ir.to_proto(model)).run(None, {"images": zeros})[0], zeros)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_any_values_can_be_kept_in_fp32(data, exported, tmp_path):
    path = tmp_path / "sample.onnx"
    if not path.exists():
        merged(exported, tmp_path)
    model = load_graph(path)
    computed = [value.name for node in model.graph for value in node.outputs]
    weights = list(model.graph.initializers)
    keep = data.draw(st.sets(st.sampled_from([*computed, *weights, "images"]), max_size=12))
    kept = to_half(model, Precision.FP16, keep)
    half = saved(model, tmp_path / "half.onnx")
    images = random_images(2)
    assert relative_difference(open_graph(half).run(images), open_graph(path).run(images)) <= tolerance(Precision.FP16)
    for node in model.graph:
        for value in node.outputs:
            assert not (value.name in keep and value.dtype is FP16)
    assert {layer.reason for layer in kept} <= {"asked for", "softmax", "normalisation"}


def test_everything_kept_is_the_fp32_graph_again(exported, tmp_path):
    path = merged(exported, tmp_path)
    model = load_graph(path)
    to_half(model, Precision.FP16, [value.name for node in model.graph for value in node.outputs])
    assert "Cast" not in _kinds(model)
    images = random_images(2)
    got = open_graph(saved(model, tmp_path / "half.onnx")).run(images)
    # Known shapes let ONNX Runtime order its sums in another way, so not to the last bit.
    assert relative_difference(got, open_graph(path).run(images)) <= 1e-6


def test_a_node_can_be_kept_by_name_where_no_value_has_that_name(exported, tmp_path):
    model = load_graph(merged(exported, tmp_path))
    kept = to_half(model, Precision.FP16, {"node_conv2d": "found by bisection"})
    assert KeptLayer("node_conv2d", "Conv", "found by bisection") in kept


def test_unknown_names_are_refused_together(exported, tmp_path):
    model = load_graph(merged(exported, tmp_path))
    with pytest.raises(ConfigError, match="stranger, alien"):
        to_half(model, Precision.FP16, ["stranger", "logits", "alien"])


def test_fp32_changes_nothing_and_int8_is_not_half(exported, tmp_path):
    path = merged(exported, tmp_path)
    model = load_graph(path)
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    assert to_half(model, Precision.FP32) == ()
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before
    with pytest.raises(ConfigError, match="int8"):
        to_half(model, Precision.INT8)


SHARED = """
g (float[b, 4] images, float[4, 2] down, float[2, 4] up, int64[1] axis) => (float[b, 4] logits)
<float[4] bias = {1, 2, 3, 4}>
{
    hidden = MatMul(images, down)
    soft = Softmax(hidden)
    adapted = MatMul(soft, up)
    logits = Add(adapted, bias)
}
"""


def test_other_float_inputs_become_half():
    model = _model(SHARED)
    to_half(model, Precision.FP16)
    types = {value.name: value.dtype for value in model.graph.inputs}
    assert types == {"images": FP32, "down": FP16, "up": FP16, "axis": ir.DataType.INT64}
    assert _kinds(model) == ["Cast", "Cast", "MatMul", "Cast", "Softmax", "Cast", "MatMul", "Add", "Cast"]
    onnx.checker.check_model(ir.to_proto(model), full_check=True)


def test_half_input_of_a_kept_layer_is_cast_to_fp32():
    model = _model(SHARED)
    to_half(model, Precision.FP16, ["down"])
    product = model.graph.node(_kinds(model).index("MatMul"))
    assert [value.name for value in product.inputs] == ["images", "down.fp32"]
    assert product.inputs[1].producer().inputs[0].dtype is FP16


def test_input_with_a_default_keeps_its_type():
    model = _model(SHARED)
    down = model.graph.inputs[1]
    down.const_value = ir.Tensor(np.ones((4, 2), np.float32), name="down")
    model.graph.register_initializer(down)
    to_half(model, Precision.FP16)
    assert [value.dtype for value in model.graph.inputs[1:3]] == [FP32, FP16]


def test_numbers_made_of_something_else_than_floats():
    text = """
    g (float[b, 4] images) => (float[b, 4] logits)
    {
        size = Shape(images)
        zeros = ConstantOfShape(size)
        whole = Cast <to=7> (images)
        back = Cast <to=1> (whole)
        sum = Add(zeros, back)
        logits = Add(sum, images)
    }
    """
    model = _model(text)
    to_half(model, Precision.FP16)
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    images = np.array([[1.5, -2.5, 3.25, 0]], np.float32)
    got = ReferenceEvaluator(ir.to_proto(model)).run(None, {"images": images})[0]
    np.testing.assert_array_equal(got, images + np.trunc(images))
    shape = next(node for node in model.graph if node.op_type == "Shape")
    assert shape.inputs[0].name == "images"
