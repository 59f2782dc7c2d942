from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from export_samples import FAMILIES
from passes_samples import assert_pass, assert_untouched, held, produced

from mimi_edge.export.graphs import read_graph_info
from mimi_edge.export.passes.fold_down_projection import fold_down_projection, fold_mlp_down_projection
from mimi_edge.export.passes.fold_task_weights import fold_task_weights
from mimi_edge.tasks.stores import Store

HALVES = {"attn": fold_down_projection, "mlp": fold_mlp_down_projection}


def _sites(path, kind):
    return [site for site in read_graph_info(path).task.neurons if site.endswith(kind)]


@pytest.mark.parametrize("kind", HALVES)
@pytest.mark.parametrize("family", FAMILIES)
def test_one_product_less_at_every_site_of_its_kind(family, kind, merged):
    path = merged(family, Store.FP32)
    before, after = assert_pass(HALVES[kind], path)
    count = len(_sites(path, kind))
    assert count
    assert before["MatMul"] - after["MatMul"] == count
    assert after["Split"] == count


@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_folds_weights_that_were_converted_before(activation, merged):
    path = merged("swin", Store.INT8, activation)
    assert_pass(fold_down_projection, path, before=fold_task_weights)
    assert_pass(fold_mlp_down_projection, path, before=fold_task_weights)


def test_columns_are_the_layer_and_its_product_with_the_projection(merged):
    path = merged("vit", Store.FP32)
    old, new = ir.load(path), ir.load(path)
    fold_mlp_down_projection(new)
    weight = next(node for node in old.graph if node.name == "node_MatMul_44").inputs[1]
    down = held(old, "blocks.0.mlp.down")
    wide = held(new, "blocks.0.mlp.wide.weight")
    expected = np.concatenate([held(old, weight.name), held(old, weight.name) @ down], axis=1)
    np.testing.assert_allclose(wide, expected, rtol=1e-5, atol=1e-6)


def test_hidden_neurons_keep_their_name(merged):
    path = merged("vit", Store.FP32)
    model = ir.load(path)
    before = produced(model)
    fold_down_projection(model)
    assert {"blocks.0.attn", "blocks.0.attn.into", "blocks.0.attn.adapted"} <= produced(model) & before


@pytest.mark.parametrize("apply", HALVES.values())
@pytest.mark.parametrize("family", FAMILIES)
def test_bare_backbone_stays(family, apply, exported):
    assert_untouched(apply, ir.load(exported(family)[1].path))


@pytest.mark.parametrize("apply", HALVES.values())
def test_weights_that_are_inputs_stay(apply, merged):
    model = ir.load(merged("vit", Store.FP32))
    for name, value in model.graph.initializers.items():
        if name.endswith(".down"):
            model.graph.inputs.append(value)
    assert_untouched(apply, model)
