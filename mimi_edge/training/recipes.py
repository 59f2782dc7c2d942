"""Recipes: named sets of values for the options that say how to train; whoever gives an option overrules its recipe."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from mimi_edge.errors import ConfigError
from mimi_edge.texts import excerpt

QUICK, PAPER = "quick", "paper"
RECIPES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        QUICK: MappingProxyType(
            {
                "epochs": 12,
                "pruning_epochs": None,
                "warm_up_epochs": None,
                "batch_size": 64,
                "learning_rate": 2e-3,
                "weight_decay": 0.01,
                "decay_vectors": True,
                "clip_norm": None,
                "label_smoothing": 0.1,
                "augment": "none",
                "mixup": 0.0,
                "cutmix": 0.0,
                "drop_path": 0.0,
                "rho": 0.5,
            }
        ),
        PAPER: MappingProxyType(
            {
                "epochs": 100,
                "pruning_epochs": None,
                "warm_up_epochs": 20,
                "batch_size": 64,
                "learning_rate": 2e-3,
                "weight_decay": 0.05,
                "decay_vectors": False,
                "clip_norm": 5.0,
                "label_smoothing": 0.1,
                "augment": "crop+flip+randaugment:9+jitter:0.4+erasing:0.25",
                "mixup": 0.8,
                "cutmix": 1.0,
                "drop_path": 0.2,
                "rho": 0.5,
            }
        ),
    }
)
"""By name, and then by entry of `TrainingConfig`; every recipe has the same entries.

The authors do not say their learning rate and batch for every backbone: those of `paper` are `quick`'s.
"""
OF_EPOCHS = ("pruning_epochs", "warm_up_epochs")
"""What a recipe says for its own number of epochs, and keeps in proportion to another."""


def with_recipe(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The entries that were given, and those of a recipe for what it decides and nobody gave.

    Args:
        name: of the recipe.
        given: entries of `TrainingConfig`; None means that one was not given.

    Raises:
        ConfigError: there is no such recipe.
    """
    if name not in RECIPES:
        raise ConfigError(f"--recipe must be one of {', '.join(RECIPES)}, got {excerpt(name)}")
    recipe = RECIPES[name]
    chosen = {entry: value for entry, value in given.items() if entry not in recipe or value is not None}
    epochs = chosen.get("epochs", recipe["epochs"])
    scaled = {entry: _in_proportion(recipe[entry], epochs, recipe["epochs"]) for entry in OF_EPOCHS}
    return {**recipe, **scaled, **chosen}


def _in_proportion(count: int | None, epochs: int, own_epochs: int) -> int | None:
    """A number of epochs, where a training has others than the recipe says itself."""
    return count if count is None or epochs == own_epochs else max(1, round(count * epochs / own_epochs))
