from __future__ import annotations

import shutil

import onnx_ir as ir
import pytest
from export_samples import FAMILIES, assert_close, random_images
from passes_samples import answers, assert_tidy, content_of, kinds, produced

from mimi_edge.choices import Backend, Strategy
from mimi_edge.errors import ArtifactError, ConfigError
from mimi_edge.export.engine_passes import (
    CPU_PASSES,
    ENGINE_PASSES,
    MIXES_TASK_INTO_BACKBONE,
    PASSES,
    default_passes,
    tune,
)
from mimi_edge.export.graphs import read_graph_info
from mimi_edge.export.onnx_runtime import open_graph
from mimi_edge.tasks.stores import Store

EXPECTED = {
    "vit": {"fold_query_scale", "split_projections"},
    "deit": {"fold_query_scale", "split_projections"},
    "swin": {"fold_query_scale", "split_projections", "fold_attention_bias"},
    "swinv2": {"split_projections", "fold_attention_bias"},
}
"""Passes that have something to do in a bare backbone."""


@pytest.mark.parametrize("store", list(Store))
@pytest.mark.parametrize("family", FAMILIES)
def test_all_passes_together_change_no_answer(family, store, merged):
    path = merged(family, store)
    model = ir.load(path)
    changed = tune(model, tuple(PASSES))
    folded = set() if store is Store.FP32 else {"fold_task_weights"}
    assert set(changed) == EXPECTED[family] | MIXES_TASK_INTO_BACKBONE | {"round_up_neurons"} | folded
    for batch in (1, 2, 5):
        images = random_images(batch, seed=batch)
        assert_close(answers(model, path, images), open_graph(path).run(images), 1e-5)
    assert_tidy(model)


@pytest.mark.parametrize("family", FAMILIES)
def test_bare_backbones(family, exported, tmp_path):
    _, graph = exported(family)
    shutil.copytree(graph.folder, tmp_path, dirs_exist_ok=True)
    model = ir.load(tmp_path / "backbone.onnx")
    assert set(tune(model, tuple(PASSES))) == EXPECTED[family]
    images = random_images(2)
    assert_close(answers(model, tmp_path / "backbone.onnx", images), open_graph(graph.path).run(images), 1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_tuning_twice_changes_nothing_more(family, merged):
    model = ir.load(merged(family, Store.INT8))
    assert tune(model)
    once = content_of(model)
    assert tune(model) == ()
    assert content_of(model) == once


@pytest.mark.parametrize("family", FAMILIES)
def test_every_site_is_still_there(family, merged):
    path = merged(family)
    model = ir.load(path)
    tune(model, tuple(PASSES))
    assert {site.name for site in read_graph_info(path).sites} <= produced(model)


def test_order_of_the_names_does_not_matter(merged):
    one, other = ir.load(merged("swin")), ir.load(merged("swin"))
    assert tune(one, tuple(PASSES)) == tune(other, tuple(PASSES)[::-1])
    assert content_of(one) == content_of(other)


def test_task_weights_are_folded_even_without_any_pass(merged):
    assert tune(ir.load(merged("vit", Store.INT8)), ()) == ("fold_task_weights",)
    assert tune(ir.load(merged("vit", Store.FP32)), ()) == ()


def test_unknown_pass():
    with pytest.raises(ConfigError, match=r"fold_nothing.*fold_query_scale"):
        tune(ir.Model(ir.Graph([], [], nodes=[], opset_imports={"": 20}), ir_version=10), ("fold_nothing",))


def test_tuned_graph_is_checked(merged):
    model = ir.load(merged("vit"))
    model.graph.append(ir.node("Bernoulli", [model.graph.outputs[0]], name="noise"))
    model.graph.outputs[0] = model.graph.node("noise").outputs[0]
    with pytest.raises(ArtifactError, match="Bernoulli"):
        tune(model)


@pytest.mark.parametrize("family", FAMILIES)
def test_normalisations_and_gelus_are_single_nodes(family, merged):
    path = merged(family)
    info = read_graph_info(path)
    model = ir.load(path)
    for counted in (kinds(model), (tune(model), kinds(model))[1]):
        blocks = len(info.sites) // 2
        assert counted["LayerNormalization"] >= 2 * blocks
        assert counted["Gelu"] == blocks + len(info.task.neurons)
        assert not counted.keys() & {"Erf", "Tanh", "Sqrt", "Pow", "Reciprocal"}


@pytest.mark.parametrize("strategy", list(Strategy))
@pytest.mark.parametrize("backend", list(Backend))
def test_default_passes(backend, strategy):
    chosen = default_passes(backend, strategy)
    assert set(chosen) <= set(PASSES)
    assert chosen == tuple(name for name in PASSES if name in chosen)
    assert strategy is Strategy.PER_TASK or not MIXES_TASK_INTO_BACKBONE & set(chosen)


def test_defaults_are_of_known_passes():
    assert set(CPU_PASSES) | set(ENGINE_PASSES) <= set(PASSES)
    assert default_passes(Backend.ORT_CPU) == CPU_PASSES
    assert default_passes(Backend.TRT_RTX) == ENGINE_PASSES
