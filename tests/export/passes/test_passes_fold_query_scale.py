from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from passes_samples import assert_pass, assert_untouched, held

from mimi_edge.export.passes.fold_query_scale import fold_query_scale
from mimi_edge.export.passes.projections import projections
from mimi_edge.export.passes.split_projections import split_projections

BLOCKS = {"vit": 2, "deit": 2, "swin": 3}


@pytest.mark.parametrize("family", BLOCKS)
def test_one_multiplication_less_a_block(family, merged):
    before, after = assert_pass(fold_query_scale, merged(family))
    assert before - after == {"Mul": BLOCKS[family]}


def test_cosine_attention_has_no_such_scale(merged):
    assert_untouched(fold_query_scale, ir.load(merged("swinv2")))


def test_only_the_columns_of_the_queries_are_scaled(merged):
    old, new = ir.load(merged("swin")), ir.load(merged("swin"))
    fold_query_scale(new)
    (first, *_), (changed, *_) = projections(old.graph), projections(new.graph)
    factor = np.float32(first.depth**-0.5)
    for before, after in ((first.linear.weight, changed.linear.weight), (first.linear.bias, changed.linear.bias)):
        scale = np.where(np.arange(3 * first.width) < first.width, factor, np.float32(1))
        np.testing.assert_allclose(held(new, after.name), held(old, before.name) * scale, rtol=1e-6)


def test_scale_that_is_no_single_number_stays(merged):
    model = ir.load(merged("vit"))
    for projection in projections(model.graph):
        scaling = projection.parts[0].uses()[0].node
        many = ir.tensor(np.ones(projection.depth, np.float32), name=f"{scaling.name}.many")
        value = ir.Value(name=many.name, shape=many.shape, type=ir.TensorType(many.dtype), const_value=many)
        model.graph.register_initializer(value)
        scaling.replace_input_with(1, value)
    assert_untouched(fold_query_scale, model)


def test_queries_that_are_used_unscaled_too_stay(merged):
    model = ir.load(merged("vit"))
    for projection in projections(model.graph):
        other = ir.node("Relu", [projection.parts[0]], name=f"{projection.parts[0].name}.other")
        model.graph.append(other)
        model.graph.outputs.append(other.outputs[0])
    assert_untouched(fold_query_scale, model)


def test_finds_no_queries_once_projections_are_split(merged):
    model = ir.load(merged("vit"))
    split_projections(model)
    assert_untouched(fold_query_scale, model)
