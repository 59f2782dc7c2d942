from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from export_samples import FAMILIES
from passes_samples import assert_pass, assert_untouched, held, in_memory

from mimi_edge.export.passes.fold_task_weights import fold_task_weights
from mimi_edge.tasks.files import read_task
from mimi_edge.tasks.stores import Store
from mimi_edge.tasks.task import decode_adapters, decode_head


@pytest.mark.parametrize("store", [Store.FP16, Store.INT8])
@pytest.mark.parametrize("family", FAMILIES)
def test_conversions_go(family, store, merged):
    before, after = assert_pass(fold_task_weights, merged(family, store))
    assert before["Cast"] > 0
    assert after["Cast"] == 0
    if store is Store.INT8:
        assert after["Mul"] < before["Mul"]


@pytest.mark.parametrize("store", [Store.FP16, Store.INT8])
def test_weights_are_what_the_task_file_says_under_its_names(store, merged):
    path = merged("swin", store)
    task = read_task(path.with_name("sample.safetensors"))
    model = ir.load(path)
    fold_task_weights(model)
    for site, weights in decode_adapters(task).items():
        np.testing.assert_array_equal(held(model, f"{site}.down"), weights.down)
        np.testing.assert_array_equal(held(model, f"{site}.up"), weights.up)
    np.testing.assert_array_equal(held(model, "head.weight"), decode_head(task).weight)
    assert {value.dtype for value in model.graph.initializers.values()} == {ir.DataType.FLOAT, ir.DataType.INT64}


def test_backbone_weights_stay_in_their_file(merged):
    model = ir.load(merged("swin", Store.INT8))
    fold_task_weights(model)
    assert in_memory(model)
    assert not any(name.startswith("backbone.") for name in in_memory(model))


@pytest.mark.parametrize("family", FAMILIES)
def test_fp32_weights_stay_where_they_are(family, merged):
    assert_untouched(fold_task_weights, ir.load(merged(family, Store.FP32)))


def test_stored_constant_with_another_user_keeps_its_name(merged):
    path = merged("vit", Store.FP16)
    model = ir.load(path)
    stored = model.graph.initializers["head.bias"]
    model.graph.append(ir.node("Identity", [stored], name="other"))
    model.graph.outputs.append(model.graph.node("other").outputs[0])
    assert fold_task_weights(model)
    assert model.graph.initializers["head.bias"] is stored
    assert model.graph.initializers["head.bias.fp32"].dtype == ir.DataType.FLOAT


def test_what_somebody_may_override_is_no_constant(merged):
    model = ir.load(merged("vit", Store.FP16))
    for name in list(model.graph.initializers):
        if model.graph.initializers[name].dtype == ir.DataType.FLOAT16:
            model.graph.inputs.append(model.graph.initializers[name])
    assert_untouched(fold_task_weights, model)


def test_conversion_to_half_precision_stays(merged):
    model = ir.load(merged("vit", Store.FP32))
    weight = model.graph.initializers["head.weight"]
    cast = ir.node("Cast", [weight], {"to": ir.DataType.FLOAT16}, name="half")
    model.graph.insert_before(model.graph.node(0), [cast])
    model.graph.outputs.append(cast.outputs[0])
    assert_untouched(fold_task_weights, model)
