"""Stochastic depth in a frozen backbone: where it is, how much is left out, and that seed and place alone decide it."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from training_samples import random_images, tiny_module

from mimi_edge.errors import ConfigError
from mimi_edge.training.batches import Place
from mimi_edge.training.drop_path import drop_path_rates, dropping_paths

HERE = Place(1, 2, 3)


@pytest.mark.parametrize("family", ["vit", "swin", "swinv2"])
def test_the_rate_rises_to_that_of_the_last_block(family: str) -> None:
    rates = list(drop_path_rates(tiny_module(family), 0.3).values())
    assert rates == sorted(rates)
    assert (rates[0], rates[-1]) == (0, pytest.approx(0.3))


@pytest.mark.parametrize("family", ["vit", "swin", "swinv2"])
def test_seed_and_place_decide_which_paths_are_dropped(family: str) -> None:
    module, images = tiny_module(family), random_images(8)
    whole = module(images)

    def features(seed: int, place: Place) -> torch.Tensor:
        with dropping_paths(module, 0.5, seed, place):
            return module(images)

    made = features(0, HERE)
    assert torch.equal(made, features(0, HERE))
    assert not torch.equal(made, features(1, HERE))
    assert not torch.equal(made, features(0, Place(1, 2, 4)))
    assert not torch.equal(made, whole)
    assert torch.equal(module(images), whole)


def test_no_rate_changes_nothing() -> None:
    module, images = tiny_module("vit"), random_images(2)
    with dropping_paths(module, 0.0, 0, HERE):
        made = module(images)
    assert torch.equal(made, module(images))


def test_a_branch_that_is_kept_makes_up_for_those_that_are_not() -> None:
    module = nn.Sequential()
    module.add_module("drop_path", nn.Identity())
    module.add_module("last", nn.ModuleDict({"drop_path1": nn.Identity()}))
    ones = torch.ones(4_000, 2)
    with dropping_paths(module, 0.25, 0, HERE):
        branch = module[1]["drop_path1"](ones)
    assert sorted(branch.unique().tolist()) == pytest.approx([0, 1 / 0.75])
    assert branch.mean().item() == pytest.approx(1, abs=0.05)
    assert torch.equal(branch[:, 0], branch[:, 1])


def test_a_backbone_without_paths_is_refused() -> None:
    with pytest.raises(ConfigError, match="--drop-path"):
        drop_path_rates(nn.Linear(2, 2), 0.1)
