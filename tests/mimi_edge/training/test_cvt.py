"""CvT through transformers: its weights from the hub, from a file and at random, and what it is without its library."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mimi_edge.errors import ArtifactError, ConfigError, MimiEdgeError
from mimi_edge.images.image_size import ImageSize
from mimi_edge.images.preprocessing import Preprocessing
from mimi_edge.training import cvt
from mimi_edge.training.backbones import load_backbone
from mimi_edge.training.drop_path import drop_path_rates
from mimi_edge.training.supported import supported

SMALL = {"depth": [1, 2, 3], "embed_dim": [16, 16, 32], "num_heads": [1, 1, 2], "mlp_ratio": [2.0, 2.0, 2.0]}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """All CvTs are small."""
    make = cvt.make_cvt
    monkeypatch.setattr(cvt, "make_cvt", lambda **_: make(**SMALL))
    torch.manual_seed(5)
    return make(**SMALL)


def test_random_weights_are_those_of_the_seed(small: nn.Module) -> None:
    first, again, other = (load_backbone("cvt_13", "random", seed=seed, image_size=64) for seed in (1, 1, 2))
    assert first.identity == again.identity != other.identity
    assert first.preprocessing == Preprocessing(64, 73, "bicubic", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert load_backbone("cvt_13", "random").preprocessing.size == ImageSize(224, 224)
    assert first.family.name == "CvT"
    assert len(first.sites) == 12


def test_a_file_is_a_full_checkpoint_of_the_hub(small: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    tensors = {name: value.clone() for name, value in small.state_dict().items()}
    save_file(tensors | {"classifier.weight": torch.zeros(7, 32), "classifier.bias": torch.zeros(7)}, path)
    loaded = load_backbone("cvt_21", str(path), image_size=64)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(loaded.module(images), small.eval()(images))
    assert next(iter(tensors)).startswith("cvt.encoder.stages.0.")
    save_file(dict(list(tensors.items())[1:]), path)
    with pytest.raises(ArtifactError, match="is missing"):
        load_backbone("cvt_21", str(path))


def test_pretrained_weights_are_those_of_the_hub(
    small: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str]] = []

    def fetched(backbone: str, repository: str) -> Path:
        asked.append((backbone, repository))
        return tmp_path / "model.safetensors"

    save_file(small.state_dict(), tmp_path / "model.safetensors")
    monkeypatch.setattr(cvt, "fetched_weights", fetched)
    module = load_backbone("cvt_13", "pretrained").module
    assert asked == [("cvt_13", "microsoft/cvt-13")]
    assert all(torch.equal(value, small.state_dict()[name]) for name, value in module.state_dict().items())


def test_without_a_network_there_is_one_clear_error(small: nn.Module) -> None:
    with pytest.raises(MimiEdgeError, match=r"cvt_13.*\nWanted: model.safetensors of microsoft/cvt-13"):
        load_backbone("cvt_13", "pretrained")


def test_without_transformers_the_part_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    cvt._kind.cache_clear()
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match="transformers"):
        load_backbone("cvt_13", "random")


def test_whole_blocks_are_not_dropped(small: nn.Module) -> None:
    with pytest.raises(ConfigError, match="whole blocks"):
        drop_path_rates(small, 0.1)


def test_the_table_has_the_papers_sizes() -> None:
    found = {one.name: one for one in supported() if one.family == "CvT"}
    assert {name: round(one.parameters / 1e6, 1) for name, one in found.items()} == {"cvt_13": 19.6, "cvt_21": 31.2}
    assert {name: one.sites for name, one in found.items()} == {"cvt_13": 26, "cvt_21": 42}
