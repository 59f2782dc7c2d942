"""Recipes: what they decide, and that whoever gives an option overrules them."""

from __future__ import annotations

from dataclasses import fields

import pytest

from mimi_edge.errors import ConfigError
from mimi_edge.training.asked_config import asked_config
from mimi_edge.training.config import TrainingConfig
from mimi_edge.training.recipes import PAPER, QUICK, RECIPES, with_recipe

ENTRIES = {field.name: field.default for field in fields(TrainingConfig)}


def test_recipes_decide_the_same_entries() -> None:
    assert RECIPES[QUICK].keys() == RECIPES[PAPER].keys() <= ENTRIES.keys()


def test_without_a_recipe_a_run_is_as_quick_says() -> None:
    config = asked_config(budget_mb=0.1)
    assert {name: getattr(config, name) for name in RECIPES[QUICK]} == RECIPES[QUICK]


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_makes_sense_as_it_is(recipe: str) -> None:
    config = asked_config(budget_mb=0.1, recipe=recipe)
    assert {name: getattr(config, name) for name in RECIPES[recipe]} == RECIPES[recipe]


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_suits_methods_that_are_not_pruned(recipe: str) -> None:
    assert asked_config(budget_mb=0.1, method="lora", recipe=recipe).method == "lora"


def test_what_is_given_wins_even_where_it_is_what_another_recipe_says() -> None:
    given = {name: RECIPES[QUICK][name] for name in ("weight_decay", "mixup", "augment", "decay_vectors")}
    assert with_recipe(PAPER, given) == {**RECIPES[PAPER], **given}


def test_none_is_not_given() -> None:
    assert with_recipe(PAPER, {"mixup": None, "weight_decay": None, "seed": 3}) == {**RECIPES[PAPER], "seed": 3}


@pytest.mark.parametrize(("epochs", "warm_up"), [(100, 20), (50, 10), (10, 2), (2, 1)])
def test_warm_up_keeps_its_proportion(epochs: int, warm_up: int) -> None:
    chosen = with_recipe(PAPER, {"epochs": epochs})
    assert (chosen["epochs"], chosen["warm_up_epochs"]) == (epochs, warm_up)
    assert with_recipe(PAPER, {"epochs": epochs, "warm_up_epochs": 0})["warm_up_epochs"] == 0


def test_an_unknown_recipe_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"quick, paper.*slow"):
        asked_config(budget_mb=0.1, recipe="slow")
