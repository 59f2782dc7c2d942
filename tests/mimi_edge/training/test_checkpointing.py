"""Gradient checkpointing: the same gradients to the last bit, out of less memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
import torch
from tiny_families import TINY, tiny_family
from training_samples import CLASSES, small_config

from mimi_edge.budgets import Budget
from mimi_edge.errors import ConfigError
from mimi_edge.methods.catalogue import METHODS
from mimi_edge.methods.method import Method
from mimi_edge.training.backbones import LoadedBackbone
from mimi_edge.training.batches import Place
from mimi_edge.training.checkpointing import require_recomputable
from mimi_edge.training.drop_path import dropping_paths
from mimi_edge.training.edited_model import EditedModel
from mimi_edge.training.prepared_run import prepare
from mimi_edge.training.runs import run_training

WITHOUT_DROP_PATH = {"cvt"}
SMALL = {"start_ratio": 4.0, "neurons": 4, "parts": 2, "rank": 2, "tokens": 3, "width": 4}


@contextmanager
def model_of(backbone: LoadedBackbone, method: Method) -> Iterator[EditedModel]:
    settings = method.settings_of({name: value for name, value in SMALL.items() if hasattr(method.settings(), name)})
    model = EditedModel(backbone, method.on(backbone.network, settings), CLASSES)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.trained_parameters().values():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    try:
        yield model
    finally:
        model.release()


def gradients(model: EditedModel, *, again: bool, rate: float, start: int = 0) -> tuple[dict[str, torch.Tensor], int]:
    """Of a loss, with paths dropped, and the bytes that were kept for them."""
    size, kept = model.backbone.pretrained_cfg["input_size"], set[tuple[int, int]]()

    def keeping(tensor: torch.Tensor) -> torch.Tensor:
        kept.add((tensor.untyped_storage().data_ptr(), tensor.untyped_storage().nbytes()))
        return tensor

    images = torch.randn(4, *size, generator=torch.Generator().manual_seed(2))
    parameters = model.trained_parameters()
    before = model.run_before(images, start)
    with (
        dropping_paths(model.backbone, rate, 0, Place(0, 0, 0)) as chance,
        model.recomputing(chance) if again else nullcontext(),
    ):
        with torch.autograd.graph.saved_tensors_hooks(keeping, lambda tensor: tensor):
            loss = model.run_from(before, start).square().sum()
        found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    return dict(zip(parameters, found, strict=True)), sum(size for _, size in kept)


def assert_same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    different = [name for name, one in left.items() if one is not None and not torch.equal(one, right[name])]
    assert different == []
    assert any(one is not None and one.abs().max() > 0 for one in left.values())


EACH = [(family, method) for family in TINY for method in ("mimi", "full") if (family, method) != ("levit", "full")]
"""LeViT's weights are not to be replaced: normalisations are folded into them."""


@pytest.mark.parametrize(("family", "method"), EACH)
def test_gradients_are_the_same_bits_for_every_family(family: str, method: str) -> None:
    rate = 0.0 if family in WITHOUT_DROP_PATH else 0.5
    with model_of(tiny_family(family), METHODS[method]) as model:
        plain, _ = gradients(model, again=False, rate=rate)
        again, _ = gradients(model, again=True, rate=rate)
    assert_same(plain, again)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", ["vit", "swin"])
def test_gradients_are_the_same_bits_for_every_method_or_it_is_refused(family: str, method: str) -> None:
    backbone = tiny_family(family)
    with model_of(backbone, METHODS[method]) as model:
        if (family, method) == ("swin", "vpt-shallow"):
            with pytest.raises(ConfigError, match=r"--grad-checkpointing: prompts .* --method, such as vpt-deep"):
                require_recomputable(model.description, backbone.network)
            return
        require_recomputable(model.description, backbone.network)
        plain, _ = gradients(model, again=False, rate=0.5)
        again, _ = gradients(model, again=True, rate=0.5)
    assert_same(plain, again)


def test_a_pass_that_starts_in_the_middle_is_recomputed_as_well() -> None:
    with model_of(tiny_family("vit"), METHODS["mimi"]) as model:
        start = model.blocks_before(model.start) + 2
        plain, _ = gradients(model, again=False, rate=0, start=start)
        again, _ = gradients(model, again=True, rate=0, start=start)
    assert_same(plain, again)


def test_of_each_block_only_its_input_is_kept() -> None:
    with model_of(tiny_family("vit"), METHODS["mimi"]) as model:
        _, plain = gradients(model, again=False, rate=0)
        _, again = gradients(model, again=True, rate=0)
    assert again < plain / 3


def test_a_network_is_left_as_it_was() -> None:
    backbone = tiny_family("swin")
    with model_of(backbone, METHODS["lora"]) as model:
        before = {name: dict(vars(part)) for name, part in backbone.module.named_modules()}
        own = {name: id(one) for name, one in backbone.module.named_parameters()}
        gradients(model, again=True, rate=0.5)
        assert {name: id(one) for name, one in backbone.module.named_parameters()} == own
        assert {name: list(vars(part)) for name, part in backbone.module.named_modules()} == {
            name: list(one) for name, one in before.items()
        }


@pytest.mark.parametrize("score", ["mimi", "snip", "grasp", "l1-activations"])
def test_a_run_makes_the_same_task_with_it(score: str, pictures: Path, tmp_path: Path) -> None:
    made = []
    for again in (False, True):
        config = small_config(pictures, score=score, drop_path=0.2, grad_checkpointing=again)
        folder = tmp_path / str(again)
        report = run_training(config, folder)
        made.append((folder / f"{config.name}.safetensors").read_bytes())
        assert report.cost.size_bytes == len(made[-1])
    assert made[0] == made[1]


def test_what_cannot_be_recomputed_is_refused_before_a_run_begins() -> None:
    asked = {"backbone": "builtin", "weights": "pretrained", "method": "vpt-shallow", "budget": Budget(100_000)}
    with pytest.raises(ConfigError, match=r"^--grad-checkpointing: prompts"):
        prepare(small_config("builtin:digits", grad_checkpointing=True, **asked))
    prepare(small_config("builtin:digits", **asked))
