"""Counted operations, against torch's own counter, which watches one level deeper."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from training_samples import CLASSES, adapted_model, random_images

from mimi_edge.budgets import CostModel
from mimi_edge.images.image_size import ImageSize
from mimi_edge.methods import mimi
from mimi_edge.tasks.stores import Store
from mimi_edge.tasks.task import TaskHeader
from mimi_edge.training.backbones import LoadedBackbone
from mimi_edge.training.flops import FlopsCount, count_flops


def counted_by_torch(module: nn.Module) -> int:
    # Torch 2.14's counter does not know the CPU's fused attention; plain products it always knew.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        module(random_images(1))
    return counter.get_total_flops()


def test_full_is_what_torch_counts(backbone: LoadedBackbone) -> None:
    assert count_flops(backbone.module, ImageSize.of(32), FlopsCount.FULL) == counted_by_torch(backbone.module) > 0


@pytest.mark.parametrize("fused", [True, False])
def test_fused_and_plain_attention_count_alike(vit: LoadedBackbone, fused: bool) -> None:
    before = count_flops(vit.module, ImageSize.of(32), FlopsCount.FULL)
    attentions = [module for module in vit.module.modules() if hasattr(module, "fused_attn")]
    set_before = [attention.fused_attn for attention in attentions]
    try:
        for attention in attentions:
            attention.fused_attn = fused
        assert count_flops(vit.module, ImageSize.of(32), FlopsCount.FULL) == before
    finally:
        for attention, was in zip(attentions, set_before, strict=True):
            attention.fused_attn = was
    assert attentions


def test_paper_leaves_attentions_products_out_and_counts_normalisations(vit: LoadedBackbone) -> None:
    tokens, width, blocks = 17, 16, 3
    products = blocks * 2 * 2 * tokens * tokens * width
    norms = (2 * blocks + 1) * 5 * tokens * width
    full = count_flops(vit.module, ImageSize.of(32), FlopsCount.FULL)
    assert count_flops(vit.module, ImageSize.of(32), FlopsCount.PAPER) == full - products + norms


def cost_model(backbone: LoadedBackbone) -> CostModel:
    classes = tuple(str(number) for number in range(CLASSES))
    header = TaskHeader("t", backbone.identity, classes, backbone.preprocessing, "gelu", Store.FP16, {}, "0" * 64, {})
    return CostModel(
        header,
        backbone.network,
        mimi.describe(backbone.network, mimi.MimiSettings()),
        count_flops(backbone.module, ImageSize.of(32), FlopsCount.FULL),
    )


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_costs_of_adapters_and_head_are_what_torch_counts(backbone: LoadedBackbone, data: st.DataObject) -> None:
    neurons = {site.name: data.draw(st.integers(0, 5)) for site in backbone.sites}
    expected = cost_model(backbone).cost(neurons).flops
    model = adapted_model(backbone, neurons, CLASSES)
    try:
        assert expected == counted_by_torch(model)
    finally:
        model.release()
