"""`--recipe` on the command line: what it decides, what goes before it, and the defaults that are shown."""

from __future__ import annotations

from typing import get_args

import pytest

from mimi_edge.cli.training_options import training_config, training_options
from mimi_edge.errors import ConfigError
from mimi_edge.training.recipes import PAPER, QUICK, RECIPES

OPTIONS = {"learning_rate": "lr"}


def of(recipe: str, **options: object) -> dict[str, object]:
    """What a configuration has of the entries of recipes."""
    config = training_config(budget_mb=0.1, recipe=recipe, **options)
    return {name: getattr(config, name) for name in RECIPES[recipe]}


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_decides_what_is_not_given(recipe: str) -> None:
    assert of(recipe) == RECIPES[recipe]


def test_options_go_before_their_recipe_even_at_the_values_of_the_default() -> None:
    given = {"lr": 0.002, "weight_decay": 0.01, "decay_vectors": True, "augment": "none", "drop_path": 0.0}
    found = of(PAPER, **given)
    assert found.pop("learning_rate") == given.pop("lr")
    assert found == {name: given.get(name, value) for name, value in RECIPES[PAPER].items() if name in found}


@pytest.mark.parametrize("entry", RECIPES[QUICK])
def test_no_option_of_a_recipe_has_a_default_of_its_own(entry: str) -> None:
    parameter = training_options()[OPTIONS.get(entry, entry)]
    assert parameter.default is None
    shown, value = get_args(parameter.annotation)[1].show_default, RECIPES[QUICK][entry]
    assert isinstance(shown, str)
    if isinstance(value, int | float) and not isinstance(value, bool):
        assert float(shown) == value


def test_all_faults_are_told_together() -> None:
    with pytest.raises(ConfigError) as refused:
        of(PAPER, epochs=2, warm_up_epochs=3, augment="twist", mixup=-1.0)
    assert all(option in str(refused.value) for option in ("--warm-up-epochs", "--augment", "--mixup"))
