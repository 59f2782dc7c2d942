from __future__ import annotations

import onnx_ir as ir
import pytest
from export_samples import FAMILIES
from hypothesis import given
from hypothesis import strategies as st
from passes_samples import assert_pass, content_of

from mimi_edge.export.passes.fold_task_weights import fold_task_weights
from mimi_edge.export.passes.round_up_neurons import round_up_neurons, rounded_up
from mimi_edge.tasks.stores import Store


def neurons(model):
    """By weight, as they are called in the task file."""
    named = {name.removesuffix(".fp32"): value for name, value in model.graph.initializers.items()}
    axes = {name: 1 if name.endswith(".down") else 0 for name in named if name.endswith((".down", ".up"))}
    return {name: named[name].const_value.shape.numpy()[axis] for name, axis in axes.items()}


@given(st.integers(1, 5000))
def test_rounding_is_up_and_by_less_than_eight(count):
    assert rounded_up(count) % 8 == 0
    assert 0 <= rounded_up(count) - count < 8


@pytest.mark.parametrize("store", list(Store))
@pytest.mark.parametrize("family", FAMILIES)
def test_rows_are_aligned_and_the_answers_stay(merged, family, store):
    path = merged(family, store)
    assert_pass(round_up_neurons, path, None if store is Store.FP32 else fold_task_weights)
    model = ir.load(path)
    fold_task_weights(model)
    before = neurons(model)
    round_up_neurons(model)
    assert before
    assert neurons(model) == {name: rounded_up(count) for name, count in before.items()}


def test_a_bare_backbone_is_left_alone(exported):
    _, graph = exported("vit")
    model = ir.load(graph.path)
    before = content_of(model)
    assert not round_up_neurons(model)
    assert content_of(model) == before
