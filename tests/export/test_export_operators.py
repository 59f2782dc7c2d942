from __future__ import annotations

import shutil

import onnx_ir as ir
import pytest
from export_samples import FAMILIES, random_task, some_neurons, task_file
from onnx import parser

from mimi_edge.errors import ArtifactError
from mimi_edge.export.merge import merge
from mimi_edge.export.operators import check_operators
from mimi_edge.tasks.stores import Store

TEXT = """
<ir_version: 10, opset_import: ["" : %d%s]>
g (float[b, 4] x, int64[1] axes) => (float[b, 4] y)
<int8[2] small = {1, 2}, int64[1] last = {1}, float[1, 4, 1] kernel = {1, 2, 3, 4}, float scale = {1}>
{ %s }
"""


def _model(body: str, opset: int = 20, domains: str = "") -> ir.Model:
    return ir.from_proto(parser.parse_model(TEXT % (opset, domains, body)))


@pytest.mark.parametrize(
    "body",
    [
        "y = Relu(x)",
        "y = Gelu(x)",
        'y = Gelu <approximate = "tanh"> (x)',
        "y = ReduceL2 (x, last)",
        "h = Squeeze(x, last) y = Unsqueeze(h, last)",
        "h = Cast <to = 10> (x) y = Cast <to = 1> (h)",
        "y = Conv <kernel_shape = [1]> (x, kernel)",
        "k = DequantizeLinear (small, scale) y = Conv <kernel_shape = [1]> (x, k)",
    ],
)
def test_what_the_parser_knows_passes(body):
    check_operators(_model(body))


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("y = Bernoulli(x)", "operator Bernoulli"),
        ("y = BlackmanWindow(axes)", "operator BlackmanWindow"),
        ("y = Cast <to = 3> (x)", "operator Cast with to = 3"),
        ("y = Cast <to = 1> (small)", "operator Cast of an int8 constant"),
        ("y = Squeeze(x, axes)", "operator Squeeze with an input 1 that is no constant"),
        ("y = ReduceSum(x, axes)", "operator ReduceSum with an input 1 that is no constant"),
        ("y = Pad(x, last, , last)", "operator Pad with an input 3"),
        ("y = Conv (x, kernel)", "operator Conv without kernel_shape"),
        ("k = Cast <to = 1> (kernel) y = Conv <kernel_shape = [1]> (x, k)", "operator Conv with weights that are no"),
        ("y, m = LayerNormalization(x, x) z = Relu(m)", "operator LayerNormalization with more outputs"),
    ],
)
def test_what_it_does_not_know_is_named(body, fault):
    with pytest.raises(ArtifactError, match=fault):
        check_operators(_model(body))


def test_all_faults_come_together():
    body = "a = Bernoulli(x) b = Bernoulli(a) c = Attention(b, b, b) y = com.example.Thing(c)"
    with pytest.raises(ArtifactError) as raised:
        check_operators(_model(body, 23, ', "com.example" : 1'))
    for fault in ("operator set 23; expected 9 to 20", "Attention", "Bernoulli", "com.example.Thing"):
        assert str(raised.value).count(f"{fault}\n") == 1


def test_branches_are_searched():
    body = "c = Constant <value = bool {1}> () y = If (c) <then_branch = t () => (float[b, 4] u) { u = Det(x) }, %s>"
    with pytest.raises(ArtifactError, match="Det"):
        check_operators(_model(body % "else_branch = e () => (float[b, 4] v) { v = Relu(x) }"))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_familys_graphs_pass(family, exported, tmp_path):
    backbone, graph = exported(family)
    shutil.copytree(graph.folder, tmp_path, dirs_exist_ok=True)
    check_operators(ir.load(graph.path))
    task = random_task(backbone, some_neurons(backbone), store=Store.FP16)
    merged = merge(tmp_path / "backbone.onnx", task_file(tmp_path, task), tmp_path / "sample.onnx")
    check_operators(ir.load(merged.path))
