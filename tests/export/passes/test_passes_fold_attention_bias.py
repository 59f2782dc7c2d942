from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import parser
from passes_samples import assert_pass, assert_untouched, held

from mimi_edge.export.passes.fold_attention_bias import fold_attention_bias


@pytest.mark.parametrize("family", ["swin", "swinv2"])
def test_bias_and_mask_become_one(family, merged):
    before, after = assert_pass(fold_attention_bias, merged(family))
    # One of the tiny network's blocks shifts its windows.
    assert before - after == {"Add": 1}


@pytest.mark.parametrize("family", ["vit", "deit"])
def test_plain_attention_has_none(family, merged):
    assert_untouched(fold_attention_bias, ir.load(merged(family)))


MASKED = """
<ir_version: 10, opset_import: ["" : 20]>
g (float[b, 2, 1, 1] x) => (float[b, 2, 1, 1] y)
<float[1, 2, 1, 1] bias = {1, 2}, float%s mask = {10, 20, 30}, int64[5] split = {%s}, int64[4] join = {-1, 2, 1, 1}>
{
    a = Add(x, bias)
    v = Reshape(a, split)
    m = Add(v, mask)
    y = Reshape(m, join)
}
"""


def _masked(mask: str = "[1, 3, 1, 1, 1]", split: str = "-1, 3, 2, 1, 1") -> ir.Model:
    return ir.from_proto(parser.parse_model(MASKED % (mask, split)))


def test_sum_has_every_window_and_head():
    model = _masked()
    assert fold_attention_bias(model)
    assert [node.op_type for node in model.graph] == ["Reshape", "Add", "Reshape"]
    np.testing.assert_array_equal(held(model, "m.bias").reshape(3, 2), [[11, 12], [21, 22], [31, 32]])
    assert set(model.graph.initializers) == {"m.bias", "split", "join"}


@pytest.mark.parametrize(
    ("mask", "split"), [("[3, 1, 1, 1, 1]", "-1, 3, 2, 1, 1"), ("[1, 3, 1, 1, 1]", "-1, 3, 1, 2, 1")]
)
def test_another_view_stays(mask, split):
    assert_untouched(fold_attention_bias, _masked(mask, split))


def test_bias_that_is_used_elsewhere_too_stays_for_that():
    model = _masked()
    other = ir.node("Relu", [model.graph.initializers["bias"]], name="other")
    model.graph.append(other)
    model.graph.outputs.append(other.outputs[0])
    assert fold_attention_bias(model)
    assert "bias" in model.graph.initializers


def test_scores_that_are_used_elsewhere_too_stay():
    model = _masked()
    other = ir.node("Relu", [model.graph.node(0).outputs[0]], name="other")
    model.graph.append(other)
    model.graph.outputs.append(other.outputs[0])
    assert_untouched(fold_attention_bias, model)
