from __future__ import annotations

import onnx_ir as ir
import pytest
from export_samples import FAMILIES
from passes_samples import assert_pass

from mimi_edge.export.passes.write_kernel_shapes import write_kernel_shapes


def convolutions(model):
    return [node for node in model.graph if node.op_type == "Conv"]


def silent(path):
    """As exporters before the newest write it."""
    model = ir.load(path)
    for node in convolutions(model):
        node.attributes.pop("kernel_shape", None)
    beside = path.with_name("silent.onnx")
    ir.save(model, beside)
    return beside


@pytest.mark.parametrize("family", FAMILIES)
def test_every_graph_says_how_large_its_kernels_are(merged, family):
    model = ir.load(merged(family))
    assert convolutions(model)
    for node in convolutions(model):
        assert tuple(node.attributes["kernel_shape"].as_ints()) == tuple(node.inputs[1].shape.numpy())[2:]


def test_what_is_missing_is_written(merged):
    assert_pass(write_kernel_shapes, silent(merged("vit")))


def test_a_kernel_whose_size_nobody_knows_is_left():
    text = """
<ir_version: 9, opset_import: ["" : 20]>
g (float[b, 3, 8, 8] x, float[m, 3, k, k] w) => (float[b, m, h, h] y) { y = Conv (x, w) }
"""
    assert not write_kernel_shapes(ir.from_onnx_text(text))
