"""Backbones of every family: where sites are, where a pass can start, and what is refused."""

from __future__ import annotations

import pytest
import timm
import torch
from tiny_families import TINY, tiny_family
from torch import nn
from training_samples import FAMILIES as OURS
from training_samples import PLAIN, WINDOWS, tiny_backbone, tiny_module

from mimi_edge.errors import ConfigError
from mimi_edge.training.backbones import LoadedBackbone, described, load_backbone
from mimi_edge.training.families import FAMILIES, family_of, sub_layer_names

each_family = pytest.mark.parametrize("family", TINY)

NOT_FROM_HERE = {"cait": {2}, "gcvit": {2, 3}, "tnt": {0, 1, 2}, "crossvit": {0, 1, 2, 3, 4}}
"""Numbers of the links from which no pass can start, because it takes something else of the image than their input."""


def whole_and_resumed(backbone: LoadedBackbone, start: int) -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.randn(3, 3, *backbone.preprocessing.size, generator=torch.Generator().manual_seed(5))
    resumed = backbone.resumed_pass
    with torch.no_grad():
        return backbone.module(images), resumed.run_from(resumed.run_before(images, start), start)


@each_family
def test_a_pass_can_start_where_nothing_else_of_the_image_is_needed(family: str) -> None:
    backbone = tiny_family(family)
    resumed = backbone.resumed_pass
    for start in range(resumed.features + 1):
        if start - 1 in NOT_FROM_HERE.get(family, ()):
            assert resumed.exact_start(start) < start
        else:
            assert resumed.exact_start(start) == start
            whole, again = whole_and_resumed(backbone, start)
            torch.testing.assert_close(again, whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("vit", {"global_pool": "avg"}),
        ("vit", {"class_token": False, "global_pool": "avg"}),
        ("vit", {"reg_tokens": 3, "pre_norm": True, "init_values": 0.1}),
        ("swin", {"depths": (1, 1, 2), "num_heads": (1, 2, 4)}),
        ("swinv2", {"depths": (1, 1, 2), "num_heads": (1, 2, 4)}),
    ],
)
def test_variants_of_a_family_start_anywhere(family: str, changes: dict[str, object]) -> None:
    module = tiny_module(family, **changes)
    module.pretrained_cfg |= {"input_size": (3, PLAIN["img_size"], PLAIN["img_size"]), "crop_pct": 1.0}
    backbone = described(module, family)
    for start in range(backbone.resumed_pass.features + 1):
        assert torch.equal(*whole_and_resumed(backbone, start))


def test_a_resumed_pass_leaves_the_network_as_it_was() -> None:
    backbone = tiny_family("swin")
    before = {name: dict(vars(part)) for name, part in backbone.module.named_modules()}
    hooks = [len(part._forward_hooks) + len(part._forward_pre_hooks) for part in backbone.module.modules()]
    whole_and_resumed(backbone, 3)
    assert {name: vars(part).keys() for name, part in backbone.module.named_modules()} == {
        name: own.keys() for name, own in before.items()
    }
    assert hooks == [len(part._forward_hooks) + len(part._forward_pre_hooks) for part in backbone.module.modules()]


@each_family
def test_sites_are_in_the_order_in_which_they_run_and_as_wide_as_their_sub_layers(family: str) -> None:
    backbone = tiny_family(family)
    ran: list[str] = []
    sites = {site.name: site for site in backbone.sites}
    handles = [
        backbone.module.get_submodule(name).register_forward_hook(lambda *_, name=name: ran.append(name))
        for name in sites
    ]
    with torch.no_grad():
        backbone.module(torch.zeros(1, 3, *backbone.preprocessing.size))
    for handle in handles:
        handle.remove()
    assert ran == list(sites)
    assert set(sites) == set(sub_layer_names(backbone.module, backbone.family))
    for name, site in sites.items():
        widths = [value.shape[0] for value in backbone.module.get_submodule(name).parameters() if value.ndim > 1]
        assert not widths or site.width in widths  # a mixer that pools has no weights


@each_family
def test_blocks_are_pairs_of_an_attention_and_the_mlp_behind_it(family: str) -> None:
    backbone = tiny_family(family)
    blocks = backbone.network.blocks
    assert [site for block in blocks for site in (block.attention, block.mlp)] == list(backbone.sites)
    assert {block.name for block in blocks} == set(backbone.blocks)


def test_sites_stand_before_layer_scale_drop_path_and_the_residual() -> None:
    module = tiny_module("vit", init_values=0.5)
    block, seen = module.blocks[0], {}
    module.blocks[0].attn.register_forward_hook(lambda _module, _inputs, output: seen.update(attn=output))
    tokens = torch.randn(1, 5, PLAIN["embed_dim"])
    with torch.no_grad():
        after = tokens + block.ls1(block.attn(block.norm1(tokens)))
        block(tokens)
        assert torch.equal(block.ls1(seen["attn"]) + tokens, after)
    assert "blocks.0.attn" in sub_layer_names(module, family_of(module))


def test_widths_and_tokens() -> None:
    swin, vit = (
        {site.name: (site.width, site.tokens) for site in tiny_backbone(family).sites} for family in ("swin", "vit")
    )
    width = WINDOWS["embed_dim"]
    assert swin["layers.0.blocks.1.mlp"] == (width, 64)
    assert swin["layers.1.blocks.0.attn"] == (2 * width, 16)
    assert set(vit.values()) == {(PLAIN["embed_dim"], 17)}  # 16 patches and the class token


def test_channels_that_come_second_are_found() -> None:
    shapes = {}
    backbone = tiny_family("coatnet")
    site = backbone.sites[0]
    handle = backbone.module.get_submodule(site.name).register_forward_hook(
        lambda _, __, output: shapes.update(got=output.shape)
    )
    with torch.no_grad():
        backbone.module(torch.zeros(1, 3, 64, 64))
    handle.remove()
    assert shapes["got"] == (1, site.width, 4, 4)
    assert site.tokens == 16


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "coat_lite_tiny"])
def test_other_families_are_refused_and_the_supported_ones_named(name: str) -> None:
    with torch.device("meta"):
        module = timm.create_model(name, num_classes=0)
    with pytest.raises(ConfigError) as refused:
        family_of(module)
    message = str(refused.value)
    assert type(module).__name__ in message
    for supported in (*(family.name for family in FAMILIES), "swin_tiny_patch4_window7_224"):
        assert supported in message


def test_vits_with_blocks_of_another_kind_are_refused() -> None:
    from timm.models.vision_transformer import ParallelScalingBlock

    module = timm.create_model("vit_tiny_patch16_224", **{**PLAIN, "block_fn": ParallelScalingBlock})
    with pytest.raises(ConfigError, match="no blocks with an attention and an MLP of their own"):
        family_of(module)


def test_an_unknown_name_is_refused_with_similar_ones() -> None:
    with pytest.raises(ConfigError, match=r"no model called 'swin_tinny'.*swin"):
        load_backbone("swin_tinny", "random")


def test_the_hash_follows_the_weights_and_nothing_else() -> None:
    same, changed = tiny_backbone("vit"), tiny_module("vit")
    assert (
        same.identity.sha256 == tiny_backbone("vit").identity.sha256 == described(same.module, "other").identity.sha256
    )
    with torch.no_grad():
        next(changed.parameters()).view(-1)[0] += 1e-3
    assert described(changed, "tiny vit").identity.sha256 != same.identity.sha256


def test_all_families_are_here() -> None:
    assert {tiny_family(name).family for name in TINY} == set(FAMILIES)
    assert set(OURS) <= set(TINY)
    assert not any(isinstance(part, nn.Dropout) and part.p for part in tiny_family("vit").module.modules())


def test_a_backbone_is_frozen(backbone: LoadedBackbone) -> None:
    assert not any(parameter.requires_grad for parameter in backbone.module.parameters())
    assert not backbone.module.training
