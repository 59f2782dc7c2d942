"""Which backbone a task gets: named, at hand, or refused with both choices."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
from training_samples import small_config

from mimi_edge.budgets import Budget
from mimi_edge.errors import ConfigError
from mimi_edge.events import Event
from mimi_edge.training.asked_config import asked_config
from mimi_edge.training.backbone_choice import SUITED, chosen_backbone
from mimi_edge.training.backbones import load_backbone
from mimi_edge.training.cvt import DEPTHS
from mimi_edge.training.devices import chosen_device
from mimi_edge.training.families import FAMILIES
from mimi_edge.training.hub_weights import WEIGHTS_FILE
from mimi_edge.training.measure_supported import measured
from mimi_edge.training.prepared_run import prepare
from mimi_edge.training.supported import similar_names, supported, supported_names

FIRST = next(iter(SUITED))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub's client."""
    from huggingface_hub import constants, file_download

    cache = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(file_download, "HF_HUB_CACHE", str(cache), raising=False)
    return cache


def fetched(cache: Path, repository: str) -> None:
    """Lays a file down as the hub's client does."""
    place = cache / f"models--{repository.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text("c" * 40)
    (place / "snapshots" / ("c" * 40)).mkdir(parents=True)
    (place / "snapshots" / ("c" * 40) / WEIGHTS_FILE).write_bytes(b"weights")


@pytest.mark.parametrize("data", ["torchvision:DTD", "hf:owner/name"])
def test_photographs_that_have_a_name_want_a_backbone_for_photographs(data: str, cache: Path) -> None:
    with pytest.raises(ConfigError, match=f"No backbone is named for {data}"):
        chosen_backbone(None, data)
    assert chosen_backbone(None, "generated:sprites-location") == "builtin"


def test_data_of_ones_own_is_refused_with_both_choices(cache: Path, tmp_path: Path) -> None:
    for weights in ("pretrained", "random", "mine.safetensors"):
        with pytest.raises(ConfigError) as refused:
            chosen_backbone(None, str(tmp_path), weights)
        said = str(refused.value)
        assert f"--backbone {FIRST} --weights pretrained" in said
        assert "--backbone builtin" in said
        assert "32 x 32 pixels" in said
        assert str(tmp_path) in said


def test_weights_that_are_on_this_machine_are_taken_and_the_first_choice_first(cache: Path, tmp_path: Path) -> None:
    *_, last = SUITED
    fetched(cache, SUITED[last])
    assert chosen_backbone(None, str(tmp_path)) == last
    assert asked_config(data=str(tmp_path), budget_mb=1).backbone == last
    fetched(cache, SUITED[FIRST])
    assert chosen_backbone(None, str(tmp_path)) == FIRST


def test_built_in_data_and_data_that_is_not_there_need_no_choice(tmp_path: Path) -> None:
    assert chosen_backbone(None, "builtin:digits") == "builtin"
    assert chosen_backbone(None, str(tmp_path / "gone")) == "builtin"


@pytest.mark.parametrize("prefix", ["", "timm/", "hf_hub:timm/", "hf-hub:timm/"])
def test_a_backbone_that_is_named_is_taken_in_all_spellings(prefix: str, tmp_path: Path) -> None:
    assert chosen_backbone(f"{prefix}vit_tiny_patch16_224.augreg_in21k", str(tmp_path)) == (
        "vit_tiny_patch16_224.augreg_in21k"
    )
    assert chosen_backbone("builtin", str(tmp_path)) == "builtin"


def test_the_table_says_where_timm_has_its_weights_from() -> None:
    assert {name: timm.get_pretrained_cfg(name).hf_hub_id for name in SUITED} == SUITED
    assert SUITED.keys() <= set(supported_names())


def test_all_names_that_are_offered_are_models_of_timms_or_of_transformers() -> None:
    assert set(supported_names()) <= {*timm.list_models(), *DEPTHS}
    assert not set(DEPTHS) & set(timm.list_models())
    assert not [name for name in supported_names() if "_xp_" in name or "18x2" in name]
    assert {one.family for one in supported()} == {family.name for family in FAMILIES}


@pytest.mark.parametrize(
    "name",
    [
        "swin_tiny_patch4_window7_224",
        "vit_small_patch14_dinov2",
        "deit_tiny_patch16_224",
        "mobilevitv2_050",
        "xcit_nano_12_p16_224",
    ],
)
def test_the_table_says_what_timms_model_is(name: str) -> None:
    assert measured(name) == next(one for one in supported() if one.name == name)


def test_what_is_not_in_the_table_is_not_supported() -> None:
    assert measured("vit_small_patch16_18x2_224") is None
    assert measured("resnet18") is None


def test_an_unknown_backbone_is_answered_with_similar_ones_that_are_supported() -> None:
    with pytest.raises(ConfigError, match="swin_tiny_patch4_window7_224") as refused:
        load_backbone("swin_tiny_patch4_window8_224", "random")
    assert not [name for name in similar_names("swin_tiny") if name not in supported_names()]
    assert "Check --backbone" in str(refused.value)
    with pytest.raises(ConfigError, match=f"for example: {FIRST}"):
        load_backbone("resnet_of_mine", "random")


def test_backbone_pixels_and_weights_are_said_before_anything_about_the_data(pictures: Path) -> None:
    heard: list[Event] = []
    prepare(small_config(pictures), listener=heard.append)
    assert "tiny vit, which sees 32 x 32 pixels; weights: random" in heard[0].text


def test_own_data_on_the_demonstration_backbone_is_not_silent(pictures: Path) -> None:
    heard: list[Event] = []
    config = small_config(pictures, backbone="builtin", weights="pretrained", budget=Budget(size_bytes=100_000))
    prepare(config, listener=heard.append)
    assert "builtin, which sees 32 x 32 pixels" in heard[0].text
    assert f"--backbone {FIRST}" in heard[0].text


def test_a_gpu_is_what_torch_calls_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from mimi_edge.training import devices

    monkeypatch.setattr(devices.torch, "zeros", lambda *_, **__: None)
    assert chosen_device("gpu") == torch.device("cuda")
    assert chosen_device("gpu:1") == torch.device("cuda:1")


@pytest.mark.parametrize("name", ["tpu9", "", "gpu-1", "gpux"])
def test_a_device_that_is_not_known_is_answered_with_ours(name: str) -> None:
    with pytest.raises(ConfigError, match=r"Expected auto, cpu, cuda \(or gpu\)") as refused:
        chosen_device(name)
    assert "ipu" not in str(refused.value)
