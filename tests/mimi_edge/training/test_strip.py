"""Strip, don't mask: what is sliced away was worth nothing, and what stays does not notice."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from training_samples import CLASSES, Masked, adapted_model, random_images, randomised

from mimi_edge.training.backbones import LoadedBackbone
from mimi_edge.training.edited_model import EditedModel
from mimi_edge.training.strip import strip

NEURONS = 4
LABELS = torch.tensor([0, 3, 1])
Kept = dict[str, tuple[int, ...]]


@contextmanager
def adapted(backbone: LoadedBackbone) -> Iterator[tuple[EditedModel, nn.Module]]:
    """A model with random adapters, and a copy of its backbone that stays bare."""
    twin = copy.deepcopy(backbone.module)
    assert hooks_on(twin) == 0
    model = adapted_model(backbone, {site.name: NEURONS for site in backbone.sites}, CLASSES, seed=5)
    try:
        yield randomised(model), twin
    finally:
        model.release()


def kept_neurons(backbone: LoadedBackbone) -> st.SearchStrategy[Kept]:
    some = st.sets(st.integers(0, NEURONS - 1)).map(lambda chosen: tuple(sorted(chosen)))
    return st.fixed_dictionaries({site.name: st.just(()) | some for site in backbone.sites})


def everything(backbone: LoadedBackbone) -> Kept:
    return {site.name: tuple(range(NEURONS)) for site in backbone.sites}


def step(model: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    optimizer.zero_grad(set_to_none=True)
    functional.cross_entropy(model(random_images(3, seed)), LABELS).backward()
    optimizer.step()


def hooks_on(module: nn.Module) -> int:
    return sum(len(part._forward_hooks) for part in module.modules())


def close(one: Tensor, other: Tensor, tolerance: float = 2e-5) -> bool:
    # fp32 round-off: sums run in another order when rows are gone.
    return bool((one - other).abs().max() <= tolerance * other.abs().max())


@torch.no_grad()
def test_a_whole_model_answers_like_hooks_written_plainly(backbone: LoadedBackbone) -> None:
    images = random_images(3)
    with adapted(backbone) as (model, twin):
        answer = model(images)
        assert close(answer, Masked(twin, model, everything(backbone))(images))
        assert not close(answer, model.head(twin(images)), 1e-2)


@settings(max_examples=15)
@given(data=st.data())
def test_a_stripped_model_answers_like_a_masked_one(backbone: LoadedBackbone, data: st.DataObject) -> None:
    kept, images = data.draw(kept_neurons(backbone)), random_images(3)
    with adapted(backbone) as (model, twin), torch.no_grad():
        masked, whole = Masked(twin, model, kept), model(images)
        strip(model, kept, None)
        assert model.sizes == {site: len(indices) for site, indices in kept.items() if indices}
        assert close(model(images), masked(images))
        if kept != everything(backbone):
            assert not torch.equal(model(images), whole)


@torch.no_grad()
def test_sites_emptied_completely_leave_the_bare_backbone(backbone: LoadedBackbone) -> None:
    images = random_images(3)
    with adapted(backbone) as (model, twin):
        strip(model, {site.name: () for site in backbone.sites}, None)
        assert torch.equal(model(images), model.head(twin(images)))
        assert (tuple(model.sizes), len(model.stored), hooks_on(backbone.module)) == ((), 0, 0)
        assert set(model.trained_parameters()) == {"head.weight", "head.bias"}


def test_an_emptied_site_leaves_no_module_no_hook_and_no_parameter(backbone: LoadedBackbone) -> None:
    gone, shrunk, *rest = (site.name for site in backbone.sites)
    with adapted(backbone) as (model, _):
        optimizer = torch.optim.AdamW(model.trained_parameters().values())
        step(model, optimizer, 1)
        strip(model, {gone: (), shrunk: (1, 3)}, optimizer)
        assert model.sizes == {shrunk: 2} | dict.fromkeys(rest, NEURONS)
        assert not [name for name, _ in model.named_modules() if gone.replace(".", "/") in name]
        assert hooks_on(backbone.module) == len(backbone.sites) - 1
        assert not backbone.module.get_submodule(gone)._forward_hooks
        left = set(model.trained_parameters().values())
        assert {parameter for parameter in model.parameters() if parameter.requires_grad} == left
        assert {parameter for group in optimizer.param_groups for parameter in group["params"]} == left
        assert set(optimizer.state) == left
        assert not [name for name in model.weights() if name == gone]


def test_release_leaves_the_backbone_as_it_was(backbone: LoadedBackbone) -> None:
    names = list(backbone.module.state_dict())
    with adapted(backbone) as (model, twin):
        assert list(backbone.module.state_dict()) == names
        assert hooks_on(backbone.module) == len(backbone.sites) == len(tuple(model.sizes))
    assert hooks_on(backbone.module) == 0
    with torch.no_grad():
        assert torch.equal(backbone.module(random_images(2)), twin(random_images(2)))


@settings(max_examples=8)
@given(data=st.data())
def test_moments_are_sliced_alike(backbone: LoadedBackbone, data: st.DataObject) -> None:
    """The next steps are those of a full-size model whose dropped neurons are masked."""
    kept = data.draw(kept_neurons(backbone))
    options = {"lr": 0.03, "weight_decay": 0.1}
    with adapted(backbone) as (model, twin):
        masked = Masked(twin, model, everything(backbone))
        own = torch.optim.AdamW(model.trained_parameters().values(), **options)
        plain = torch.optim.AdamW(masked.parts.values(), **options)
        for seed in (1, 2):
            step(model, own, seed)
            step(masked, plain, seed)
        for site, mask in masked.masks.items():
            mask.zero_()[list(kept[site])] = 1
        strip(model, kept, own)
        for seed in (3, 4):
            step(model, own, seed)
            step(masked, plain, seed)
        survivors = masked.survivors(kept)
        assert survivors.keys() == model.trained_parameters().keys()
        for name, parameter in model.trained_parameters().items():
            assert parameter.shape == survivors[name].shape
            # AdamW divides by the root of tiny second moments, which makes round-off larger than in the answers.
            torch.testing.assert_close(parameter.detach(), survivors[name], rtol=2e-3, atol=2e-4)


def test_moments_that_are_not_sliced_would_be_noticed(vit: LoadedBackbone) -> None:
    """What the test above rests on: a fresh optimizer after stripping takes other steps."""
    kept = {site.name: (0, 2) for site in vit.sites}
    with adapted(vit) as (model, _):
        optimizer = torch.optim.AdamW(model.trained_parameters().values(), lr=0.03)
        step(model, optimizer, 1)
        strip(model, kept, optimizer)
        before = {name: value.detach().clone() for name, value in model.trained_parameters().items()}
        step(model, optimizer, 2)
        kept_moments = {name: value.detach().clone() for name, value in model.trained_parameters().items()}
        with torch.no_grad():
            for name, value in model.trained_parameters().items():
                value.copy_(before[name])
        step(model, torch.optim.AdamW(model.trained_parameters().values(), lr=0.03), 2)
        moved = [
            (kept_moments[name] - value.detach()).abs().max() for name, value in model.trained_parameters().items()
        ]
        assert max(moved) > 1e-3


@pytest.mark.parametrize("kept", [{}, None])
def test_sites_that_are_not_named_keep_all(vit: LoadedBackbone, kept: Kept | None) -> None:
    with adapted(vit) as (model, _):
        parameters = dict(model.trained_parameters())
        strip(model, everything(vit) if kept is None else kept, None)
        assert all(parameters[name] is value for name, value in model.trained_parameters().items())


@torch.no_grad()
def test_new_adapters_are_the_identity(backbone: LoadedBackbone) -> None:
    images, twin = random_images(2), copy.deepcopy(backbone.module)
    model = adapted_model(backbone, {site.name: 3 for site in backbone.sites}, CLASSES)
    try:
        assert torch.equal(model(images), model.head(twin(images)))
    finally:
        model.release()


def test_the_seed_decides_the_first_weights(vit: LoadedBackbone) -> None:
    def first(seed: int) -> Tensor:
        model = adapted_model(vit, {vit.sites[0].name: 3}, CLASSES, seed=seed)
        model.release()
        return model.head.weight.detach()

    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))
