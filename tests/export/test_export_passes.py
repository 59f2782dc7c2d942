from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import parser

from mimi_edge.errors import ExportMismatchError
from mimi_edge.export.passes.cut_probes import cut_probes
from mimi_edge.export.passes.drop_broadcast_expands import drop_broadcast_expands
from mimi_edge.export.passes.drop_no_op_pads import drop_no_op_pads
from mimi_edge.export.passes.drop_unused import drop_unused
from mimi_edge.export.passes.fold_constants import fold_constants
from mimi_edge.export.passes.strip_metadata import strip_metadata

HEADER = '<ir_version: 10, opset_import: ["" : 20]>\n'


def _model(text: str) -> ir.Model:
    return ir.from_proto(parser.parse_model(HEADER + text))


def _kinds(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


PADS = """
g (float[b, 2] x) => (float[b, n] y)
<int64[4] amounts = {%s}>
{
    h = Pad(x, amounts)
    y = Relu(h)
}
"""


def test_pad_by_nothing_goes():
    model = _model(PADS % "0, 0, 0, 0")
    assert drop_no_op_pads(model)
    assert _kinds(model) == ["Relu"]
    assert not drop_no_op_pads(model)


def test_pad_by_something_stays():
    model = _model(PADS % "0, 0, 0, 1")
    assert not drop_no_op_pads(model)
    assert _kinds(model) == ["Pad", "Relu"]


EXPAND = """
g (float[b, 4] x, float[b, 1] norm, int64[2] shape) => (float[b, 4] y)
<float[b, 4] wide, float%s other>
{
    wide = Expand(norm, shape)
    other = Relu(x)
    y = %s
}
"""


def test_expand_before_a_broadcasting_operator_goes():
    model = _model(EXPAND % ("[b, 4]", "Div(other, wide)"))
    assert drop_broadcast_expands(model)
    assert _kinds(model) == ["Relu", "Div"]
    assert model.graph.node(1).inputs[1].name == "norm"


@pytest.mark.parametrize(
    ("shape", "operator"), [("[b, 1]", "Div(other, wide)"), ("[b, 4]", "Concat <axis=1> (other, wide)")]
)
def test_expand_that_does_something_stays(shape, operator):
    model = _model(EXPAND % (shape, operator))
    assert not drop_broadcast_expands(model)


PROBED = """
g (float[b, 2] x) => (float[b, 2] y)
<float[2, 1] "probes.a.b.down" = {1, 2}, float[1, 2] "probes.a.b.up" = {3, 4}>
{
    h = Sigmoid(x)
    p = MatMul(h, "probes.a.b.down")
    q = Relu(p)
    r = MatMul(q, "probes.a.b.up")
    s = %s
    y = Tanh(s)
}
"""


def _probed(last: str) -> ir.Model:
    # The text form has no dots in names.
    model = _model(PROBED.replace('"probes.a.b.down"', "d").replace('"probes.a.b.up"', "u") % last)
    for old, new in (("d", "probes.a.b.down"), ("u", "probes.a.b.up")):
        value = model.graph.initializers.pop(old)
        value.name = new
        model.graph.initializers[new] = value
    return model


def test_probe_is_cut_and_its_site_named():
    model = _probed("Add(h, r)")
    assert cut_probes(model)
    assert _kinds(model) == ["Sigmoid", "Tanh"]
    assert model.graph.node(0).outputs[0].name == "a.b"
    assert not model.graph.initializers
    assert not cut_probes(model)


@pytest.mark.parametrize("last", ["Sub(h, r)", "Add(x, r)"])
def test_rewritten_probe_is_refused(last):
    with pytest.raises(ExportMismatchError, match=r"a\.b"):
        cut_probes(_probed(last))


def test_remarks_and_inner_shapes_go():
    model = _model("g (float[b, 2] x) => (float[b, 2] y) <float[b, 2] h> { h = Relu(x) y = Relu(h) }")
    node = model.graph.node(0)
    node.doc_string = "stack trace"
    node.metadata_props["module"] = "x.y"
    model.metadata_props["exporter"] = "z"
    assert strip_metadata(model)
    assert (node.doc_string, dict(node.metadata_props), dict(model.metadata_props)) == (None, {}, {})
    assert node.outputs[0].shape is None
    assert model.graph.outputs[0].shape == ir.Shape(["b", 2])
    assert not strip_metadata(model)


def test_constants_are_folded_whatever_their_size():
    model = _model(
        """
        g (float[b, 2] x) => (float[b, 2] y)
        <float[2] a = {1, 2}>
        { c = Mul(a, a) y = Add(x, c) }
        """
    )
    assert fold_constants(model)
    assert _kinds(model) == ["Add"]
    np.testing.assert_array_equal(model.graph.node(0).inputs[1].const_value.numpy(), [1, 4])


def test_unused_goes():
    model = _model("g (float[b, 2] x) => (float[b, 2] y) <float[2] a = {1, 2}> { u = Add(x, a) y = Relu(x) }")
    assert drop_unused(model)
    assert _kinds(model) == ["Relu"]
    assert not model.graph.initializers
