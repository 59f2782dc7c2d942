"""The integers of the design, on Swin-T as timm makes it; on the meta device, because no weight matters here."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mimi_edge.images.image_size import ImageSize
from mimi_edge.methods import mimi
from mimi_edge.methods.network import Network
from mimi_edge.sites import Neurons, Site, uniform_neurons
from mimi_edge.training.backbones import sites_and_calls
from mimi_edge.training.families import block_names, family_of
from mimi_edge.training.flops import FlopsCount, count_flops

WIDTHS = (96, 192, 384, 768)
DEPTHS = (2, 2, 6, 2)
SIDES = (56, 28, 14, 7)


@pytest.fixture(scope="module")
def swin_tiny() -> nn.Module:
    with torch.device("meta"):
        return timm.create_model("swin_tiny_patch4_window7_224", num_classes=0).eval()


@pytest.fixture(scope="module")
def sites(swin_tiny: nn.Module) -> tuple[Site, ...]:
    with torch.device("meta"):
        return sites_and_calls(swin_tiny, family_of(swin_tiny), ImageSize.of(224))[0]


def adapter_parameters(sites: tuple[Site, ...], neurons: Neurons) -> int:
    return mimi.describe(Network(sites, 768), mimi.MimiSettings()).resized(neurons).numbers


def test_sites(sites: tuple[Site, ...]) -> None:
    expected = [
        Site(f"layers.{stage}.blocks.{block}.{sub_layer}", WIDTHS[stage], SIDES[stage] ** 2)
        for stage in range(4)
        for block in range(DEPTHS[stage])
        for sub_layer in ("attn", "mlp")
    ]
    assert list(sites) == expected
    assert len(sites) == 24


@pytest.mark.parametrize("neurons", [1, 2, 7, 48])
def test_adapter_weights_for_a_uniform_n(sites: tuple[Site, ...], neurons: int) -> None:
    assert adapter_parameters(sites, dict.fromkeys((site.name for site in sites), neurons)) == 17_664 * neurons


@pytest.mark.parametrize(("ratio", "weights"), [(1, 8_626_176), (8, 1_078_272), (32, 269_568), (64, 134_400)])
def test_adapter_weights_in_proportion(sites: tuple[Site, ...], ratio: int, weights: int) -> None:
    assert adapter_parameters(sites, uniform_neurons(sites, ratio)) == weights


def test_a_ratio_rounds_down_and_leaves_at_least_one(sites: tuple[Site, ...]) -> None:
    assert {uniform_neurons(sites, 64)[site.name] for site in sites if site.width == 96} == {1}
    assert set(uniform_neurons(sites, 10_000).values()) == {1}


def test_the_backbone_without_its_head(swin_tiny: nn.Module) -> None:
    assert sum(parameter.numel() for parameter in swin_tiny.parameters()) == 27_519_354


def test_the_head_has_769_weights_a_class(swin_tiny: nn.Module) -> None:
    head = nn.Linear(swin_tiny.num_features, 10)
    assert sum(parameter.numel() for parameter in head.parameters()) == 769 * 10


def test_the_papers_count_of_bare_swin_tiny(swin_tiny: nn.Module) -> None:
    assert round(count_flops(swin_tiny, ImageSize.of(224), FlopsCount.PAPER) / 1e9, 2) == 8.72


def test_the_full_count_of_bare_swin_tiny_is_torchs(swin_tiny: nn.Module) -> None:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        swin_tiny(torch.zeros(1, 3, 224, 224, device="meta"))
    assert count_flops(swin_tiny, ImageSize.of(224), FlopsCount.FULL) == counter.get_total_flops()


def test_it_has_twelve_blocks(swin_tiny: nn.Module) -> None:
    assert len(block_names(swin_tiny, family_of(swin_tiny))) == 12
