"""Backbones at sizes that they are not made for: what is resized, what stays, and what cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from timm.layers import resample_abs_pos_embed

from mimi_edge.errors import ArtifactError, ConfigError
from mimi_edge.images.image_size import ImageSize
from mimi_edge.training.backbones import load_backbone

MODEL = "test_vit"
"""timm's own test model: a plain ViT with 0.3 M parameters for 160 pixels, in patches of 16."""


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Of a full checkpoint, as published."""
    torch.manual_seed(5)
    path = tmp_path / "weights.safetensors"
    save_file(timm.create_model(MODEL).state_dict(), path)
    return path


def test_the_size_is_part_of_what_a_backbone_is() -> None:
    own, smaller = (load_backbone(MODEL, "random", image_size=size) for size in (None, 96))
    assert (own.preprocessing.size, smaller.preprocessing.size) == (ImageSize(160, 160), ImageSize(96, 96))
    assert own.identity.sha256 != smaller.identity.sha256
    assert [site.tokens for site in own.sites][:2] == [101, 101]
    assert [site.tokens for site in smaller.sites][:2] == [37, 37]
    assert [site.width for site in own.sites] == [site.width for site in smaller.sites]


@pytest.mark.parametrize("source", ["random", "file"])
def test_its_own_size_changes_nothing(weights: Path, source: str) -> None:
    named = source if source == "random" else str(weights)
    assert load_backbone(MODEL, named, image_size=160).identity == load_backbone(MODEL, named).identity


def test_positions_of_a_file_are_resized_as_timm_does_and_the_rest_is_the_file_s(weights: Path) -> None:
    own = load_backbone(MODEL, str(weights)).module.state_dict()
    smaller = load_backbone(MODEL, str(weights), image_size=96).module.state_dict()
    expected = resample_abs_pos_embed(own["pos_embed"], [6, 6], num_prefix_tokens=1)
    torch.testing.assert_close(smaller["pos_embed"], expected)
    assert own.keys() == smaller.keys()
    assert all(torch.equal(own[name], smaller[name]) for name in own if name != "pos_embed")


def test_the_built_in_backbone_sees_more_pixels_with_its_own_weights() -> None:
    larger = load_backbone("builtin", "pretrained", image_size=64)
    own = load_backbone("builtin", "pretrained")
    assert larger.preprocessing.size == ImageSize(64, 64)
    assert larger.identity != own.identity
    # It has windows and no positions, so every weight is as it was.
    ours, theirs = own.module.state_dict(), larger.module.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "davit_tiny", "hiera_tiny_224"])
def test_windows_and_stages_follow(name: str) -> None:
    assert load_backbone(name, "random", image_size=128).preprocessing.size == ImageSize(128, 128)


def test_weights_of_another_model_are_refused_and_named(weights: Path) -> None:
    with pytest.raises(ArtifactError, match=r"does not hold weights of VisionTransformer(.|\n)*is missing"):
        load_backbone("vit_tiny_patch16_224", str(weights), image_size=96)


def test_a_file_that_is_to_be_resized_is_called_what_it_is(weights: Path) -> None:
    renamed = weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(ArtifactError, match=r"call .*weights\.bin weights\.safetensors"):
        load_backbone(MODEL, str(renamed), image_size=96)


def test_height_and_width_may_differ(weights: Path) -> None:
    wide = load_backbone(MODEL, str(weights), image_size=ImageSize(96, 160))
    assert wide.preprocessing.size == ImageSize(96, 160)
    assert {site.tokens for site in wide.sites} == {6 * 10 + 1}
    full = load_file(weights)["pos_embed"]
    expected = resample_abs_pos_embed(full, new_size=(6, 10), num_prefix_tokens=1, verbose=False)
    assert torch.equal(wide.module.state_dict()["pos_embed"], expected)
    tall = load_backbone(MODEL, str(weights), image_size=ImageSize(160, 96))
    assert len({one.identity.sha256 for one in (wide, tall, load_backbone(MODEL, str(weights)))}) == 3


def test_a_crop_margin_is_kept_on_both_sides() -> None:
    found = load_backbone("swin_tiny_patch4_window7_224", "random", image_size=ImageSize(96, 192)).preprocessing
    assert (found.size, found.resize) == (ImageSize(96, 192), ImageSize(106, 213))  # its crop is 0.9 of an image


@pytest.mark.parametrize(
    ("size", "fitting"), [(ImageSize(100, 160), "96x160 or 112x160"), (ImageSize(8, 161), "16x176")]
)
def test_of_two_sides_those_that_fit_are_named_together(size: ImageSize, fitting: str) -> None:
    with pytest.raises(ConfigError, match=rf"Take --image-size {fitting}\."):
        load_backbone(MODEL, "random", image_size=size)


def test_a_design_for_squares_says_so() -> None:
    with pytest.raises(ConfigError, match=r"64 x 128 pixels: .*square.*Take a square, such as --image-size 64"):
        load_backbone("nest_tiny", "random", image_size=ImageSize(64, 128))


def test_patches_that_overlap_divide_nothing() -> None:
    """PVT v2 looks at 7 x 7 pixels every 4."""
    assert load_backbone("pvt_v2_b0", "random", image_size=128).sites[0].tokens == 32 * 32


def test_a_size_that_leaves_half_a_patch_is_refused_with_those_that_fit() -> None:
    with pytest.raises(ConfigError, match=r"16 x 16 pixels, which 100 is no multiple of\. Take --image-size 96 or 112"):
        load_backbone(MODEL, "random", image_size=100)


def test_a_design_that_has_one_size_says_so() -> None:
    with pytest.raises(ConfigError, match="efficientformer_l1 cannot be made for images of 128 x 128 pixels"):
        load_backbone("efficientformer_l1", "random", image_size=128)
