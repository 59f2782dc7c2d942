"""The integers of arXiv 2311.03873 for every way to adapt Swin-T; on the meta device, because no weight matters here.

Where its tables contradict themselves the formula stands: what is stated here follows from the network alone.
"""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from mimi_edge.images.image_size import ImageSize
from mimi_edge.methods.catalogue import METHODS
from mimi_edge.methods.costs import flops_of
from mimi_edge.methods.description import Description
from mimi_edge.methods.network import Network
from mimi_edge.training.backbones import sites_and_calls
from mimi_edge.training.families import family_of
from mimi_edge.training.flops import FlopsCount, count_flops
from mimi_edge.training.networks import network_of

HEAD = 345 * 769


@pytest.fixture(scope="module")
def network() -> Network:
    return on_meta("swin_tiny_patch4_window7_224", 224)[1]


def on_meta(name: str, side: int) -> tuple[nn.Module, Network]:
    with torch.device("meta"):
        module = timm.create_model(name, num_classes=0).eval()
        family = family_of(module)
        size = ImageSize.of(side)
        return module, network_of(module, family, *sites_and_calls(module, family, size), size)


def described(network: Network, name: str, **settings: float | str) -> Description:
    method = METHODS[name]
    return method.describe(network, method.settings_of(settings))


def test_the_head_for_345_classes() -> None:
    assert HEAD == 265_305


@pytest.mark.parametrize(
    ("name", "settings", "numbers", "millions_with_head"),
    [
        ("full", {}, 27_519_354, 27.78),
        ("attention", {}, 8_667_162, 8.93),
        ("mlp", {}, 17_274_432, 17.54),
        ("partial-1", {}, 7_091_928, 7.36),
        ("linear", {}, 0, 0.27),
        ("bitfit", {}, 52_224, 0.32),
        ("bitfit", {"tables": "yes"}, 75_546, 0.34),
        ("adaptformer", {"neurons": 64}, 570_432, 0.84),
        ("adaptformer", {"neurons": 256}, 2_268_480, 2.53),
        ("vpt-shallow", {"tokens": 10}, 960, 0.27),
        ("vpt-deep", {"tokens": 10}, 44_160, 0.31),
        ("vpt-deep", {"tokens": 100}, 441_600, 0.71),
        ("adapters", {"neurons": 1}, 17_664, 0.28),
        ("adapters", {"neurons": 23}, 406_272, 0.67),
        ("adapters", {"neurons": 47}, 830_208, 1.10),
        ("mlp-head", {"layers": 2}, 590_592, 0.86),
        ("mlp-head", {"layers": 9}, 4_724_736, 4.99),
    ],
)
def test_trained_parameters(
    network: Network, name: str, settings: dict[str, float | str], numbers: int, millions_with_head: float
) -> None:
    description = described(network, name, **settings)
    assert description.numbers == numbers
    assert round((numbers + HEAD) / 1e6, 2) == millions_with_head


def test_lora_adds_two_thin_matrices_to_queries_and_to_values(network: Network) -> None:
    widths = [block.width for block in network.blocks]
    assert described(network, "lora", rank=8).numbers == sum(2 * 8 * 2 * width for width in widths)


@pytest.mark.parametrize(
    ("settings", "gflops"), [({"ratio": 8}, 9.06), ({"neurons": 47}, 9.26), ({"neurons": 1}, 8.73)]
)
def test_operations_in_the_papers_count(network: Network, settings: dict[str, float], gflops: float) -> None:
    """M/N = 8 is what the tables call sigma = 32; for N = 1 they print 8.74, where the formula gives 8.729."""
    with torch.device("meta"):
        bare = count_flops(
            timm.create_model("swin_tiny_patch4_window7_224", num_classes=0), ImageSize.of(224), FlopsCount.PAPER
        )
    assert round(bare / 1e9, 2) == 8.72
    assert round((bare + flops_of(described(network, "adapters", **settings), network)) / 1e9, 2) == gflops


def numbers_of(module: nn.Module, *parts: str) -> int:
    named = module.named_parameters()
    return sum(value.numel() for name, value in named if any(part in name for part in parts))


def test_of_swin_v2_only_the_network_behind_its_biases_of_places_stays_frozen() -> None:
    module, network = on_meta("swinv2_tiny_window8_256", 256)
    frozen = numbers_of(module, "cpb_mlp")
    assert (numbers_of(module, ".attn."), frozen) == (8_728_650, 89_088)
    assert described(network, "attention").numbers == 8_728_650 - frozen
    assert described(network, "full").numbers == numbers_of(module, "") - frozen == 27_489_066
    biases = numbers_of(module, ".bias", "q_bias", "v_bias") - numbers_of(module, "cpb_mlp.0.bias")
    assert described(network, "bitfit").numbers == biases == 46_464
