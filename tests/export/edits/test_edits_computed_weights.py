"""Weights that a task computes are constants before anything else looks at the graph of an engine."""

from __future__ import annotations

import shutil

import numpy as np
import onnx_ir as ir
import pytest
from method_contracts import case_of, differ, images, merged_task

from mimi_edge.export.engine_passes import DEFAULT_PASSES, tune
from mimi_edge.export.graph_files import save_graph
from mimi_edge.export.graphs import load_graph
from mimi_edge.export.onnx_runtime import open_graph
from mimi_edge.export.passes.fold_computed_weights import fold_computed_weights
from mimi_edge.export.passes.fold_task_weights import fold_task_weights
from mimi_edge.export.passes.surgery import constant, constant_nodes, content
from mimi_edge.methods.catalogue import METHODS
from mimi_edge.tasks.stores import Store

COMPUTED = ["lora", "ssf", "fact-tt", "fact-tk", "repadapter", "phm", "compacter", "vpt-shallow", "vpt-deep"]
STORED = ["mimi", "adaptformer", "linear", "mlp-head"]


@pytest.fixture
def path(method, family, exported, tmp_path):
    backbone, graph = exported(family)
    return merged_task(case_of(backbone, METHODS[method]), graph, tmp_path, Store.FP32)


@pytest.mark.parametrize("family", ["vit", "swin"])
@pytest.mark.parametrize("method", COMPUTED + STORED)
def test_what_weights_alone_decide_is_evaluated_once(method, family, path, exported, tmp_path):
    model, shown = load_graph(path), images(exported(family)[0])
    assert fold_computed_weights(model) is (method in COMPUTED)
    assert not constant_nodes(model.graph)
    assert all(value.uses() for value in model.graph.initializers.values())
    assert not fold_computed_weights(model)
    save_graph(model, tmp_path / "folded.onnx")
    assert differ(open_graph(tmp_path / "folded.onnx").run(shown), open_graph(path).run(shown)) < 1e-5


@pytest.mark.parametrize("family", ["vit", "swin"])
@pytest.mark.parametrize("method", ["lora", "ssf", "fact-tk", "bitfit", "full"])
def test_passes_find_in_layers_with_other_weights_what_they_find_in_the_backbones(
    method, family, path, exported, tmp_path
):
    shutil.copytree(exported(family)[1].folder, tmp_path / "bare")
    bare = tune(load_graph(tmp_path / "bare" / "backbone.onnx"))
    assert "split_projections" in bare
    found = tune(load_graph(path))
    assert [name for name in found if name in DEFAULT_PASSES] == list(bare)


def test_an_operator_may_give_several_values():
    """As the biases of queries, keys and values are cut in the graphs of EVA-02 and DINOv3."""
    shown = ir.Value(name="shown", shape=ir.Shape([2]), type=ir.TensorType(ir.DataType.FLOAT))
    halves = ir.node("Split", [constant("both", np.arange(4.0, dtype=np.float32))], {"num_outputs": 2}, num_outputs=2)
    first = ir.node("Add", [shown, halves.outputs[0]])
    second = ir.node("Mul", [first.outputs[0], halves.outputs[1]], name="second")
    graph = ir.Graph([shown], second.outputs, nodes=[halves, first, second], opset_imports={"": 20})
    graph.register_initializer(halves.inputs[0])
    assert fold_computed_weights(ir.Model(graph, ir_version=10))
    assert [node.op_type for node in graph] == ["Add", "Mul"]
    assert [content(node.inputs[1]).tolist() for node in graph] == [[0, 1], [2, 3]]


def test_a_weight_that_comes_from_outside_is_no_constant():
    given = ir.Value(name="given", shape=ir.Shape([2]), type=ir.TensorType(ir.DataType.FLOAT))
    twice = ir.node("Add", [given, given], name="twice")
    model = ir.Model(ir.Graph([given], twice.outputs, nodes=[twice], opset_imports={"": 20}), ir_version=10)
    assert not fold_computed_weights(model)
    assert not fold_task_weights(model)
