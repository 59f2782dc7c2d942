"""Taking backbones apart: the chain is the forward pass, and what cannot be taken apart is refused."""

from __future__ import annotations

import pytest
import timm
import torch
from training_samples import FAMILIES, PLAIN, WINDOWS, random_images, tiny_backbone, tiny_module

from mimi_edge.errors import ConfigError
from mimi_edge.training.backbones import LoadedBackbone, described, load_backbone
from mimi_edge.training.families import chain, sub_layer_names


def folded(module: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    for link in chain(module):
        images = link.run(images)
    return images


@torch.no_grad()
def test_the_chain_is_timms_own_forward_pass_bit_for_bit(backbone: LoadedBackbone) -> None:
    images = random_images(3)
    assert torch.equal(folded(backbone.module, images), backbone.module(images))


@torch.no_grad()
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
def test_variants_of_a_family_run_alike(family: str, changes: dict[str, object]) -> None:
    module = tiny_module(family, **changes)
    images = random_images(2)
    assert torch.equal(folded(module, images), module(images))


def test_two_sites_a_block_in_the_order_in_which_they_run(backbone: LoadedBackbone) -> None:
    ran: list[str] = []
    handles = [
        backbone.module.get_submodule(site.name).register_forward_hook(lambda *_, name=site.name: ran.append(name))
        for site in backbone.sites
    ]
    with torch.no_grad():
        backbone.module(random_images(1))
    for handle in handles:
        handle.remove()
    assert ran == [site.name for site in backbone.sites] == list(sub_layer_names(backbone.module))
    assert len(ran) == 2 * sum(link.is_block for link in chain(backbone.module))


def test_sites_stand_before_layer_scale_drop_path_and_the_residual() -> None:
    module = tiny_module("vit", init_values=0.5)
    block, seen = module.blocks[0], {}
    module.blocks[0].attn.register_forward_hook(lambda _module, _inputs, output: seen.update(attn=output))
    tokens = torch.randn(1, 5, PLAIN["embed_dim"])
    with torch.no_grad():
        after = tokens + block.ls1(block.attn(block.norm1(tokens)))
        block(tokens)
        assert torch.equal(block.ls1(seen["attn"]) + tokens, after)
    assert "blocks.0.attn" in sub_layer_names(module)


def test_widths_and_tokens() -> None:
    swin, vit = (
        {site.name: (site.width, site.tokens) for site in described_sites(family)} for family in ("swin", "vit")
    )
    width = WINDOWS["embed_dim"]
    assert swin["layers.0.blocks.1.mlp"] == (width, 64)
    assert swin["layers.1.blocks.0.attn"] == (2 * width, 16)
    assert set(vit.values()) == {(PLAIN["embed_dim"], 17)}  # 16 patches and the class token


def described_sites(family: str):
    return tiny_backbone(family).sites


@pytest.mark.parametrize(
    "name", ["resnet18", "convnext_atto", "vit_relpos_small_patch16_224", "vit_base_patch16_rope_224"]
)
def test_other_families_are_refused_and_the_supported_ones_named(name: str) -> None:
    with torch.device("meta"):
        module = timm.create_model(name, num_classes=0)
    with pytest.raises(ConfigError) as refused:
        chain(module)
    message = str(refused.value)
    assert type(module).__name__ in message
    for supported in ("ViT", "DeiT", "Swin", "Swin V2", "swin_tiny_patch4_window7_224"):
        assert supported in message


def test_vits_with_blocks_of_another_kind_are_refused() -> None:
    from timm.models.vision_transformer import ParallelScalingBlock

    with pytest.raises(ConfigError, match="not a supported family"):
        chain(timm.create_model("vit_tiny_patch16_224", **{**PLAIN, "block_fn": ParallelScalingBlock}))


def test_an_unknown_name_is_refused_with_similar_ones() -> None:
    with pytest.raises(ConfigError, match=r"no model called 'swin_tinny'.*swin"):
        load_backbone("swin_tinny", "random")


def test_images_that_are_not_square_are_refused() -> None:
    module = tiny_module("vit", img_size=(32, 64))
    module.pretrained_cfg |= {"input_size": (3, 32, 64)}
    with pytest.raises(ConfigError, match="32 x 64"):
        described(module, "wide")


def test_the_hash_follows_the_weights_and_nothing_else() -> None:
    same, changed = tiny_backbone("vit"), tiny_module("vit")
    assert (
        same.identity.sha256 == tiny_backbone("vit").identity.sha256 == described(same.module, "other").identity.sha256
    )
    with torch.no_grad():
        next(changed.parameters()).view(-1)[0] += 1e-3
    assert described(changed, "tiny vit").identity.sha256 != same.identity.sha256


def test_all_families_are_here(backbone: LoadedBackbone) -> None:
    assert {"vit", "deit", "swin", "swinv2"} == set(FAMILIES)
    assert not any(parameter.requires_grad for parameter in backbone.module.parameters())
    assert not backbone.module.training
