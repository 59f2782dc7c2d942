"""Configurations that run folders keep: those of earlier releases go on, those of later ones are refused in words."""

from __future__ import annotations

import hashlib
import json
from dataclasses import MISSING, fields
from pathlib import Path

import pytest
from training_samples import small_config

from mimi_edge import __version__
from mimi_edge.choices import Scope
from mimi_edge.errors import ConfigError
from mimi_edge.training.config import TrainingConfig, config_document, config_from_document

FIRST_RELEASE = {
    "budget": {"size_bytes": 500000, "flops": None},
    "data": "builtin:digits",
    "backbone": "builtin",
    "weights": "pretrained",
    "name": "digits",
    "store": "int8",
    "epochs": 3,
    "batch_size": 64,
    "learning_rate": 0.002,
    "weight_decay": 0.01,
    "label_smoothing": 0.1,
    "rho": 0.5,
    "start_ratio": 1.0,
    "score": "mimi",
    "scope": "local",
    "activation": "gelu",
    "flops_count": "full",
    "augment": "none",
    "precision": "auto",
    "device": "auto",
    "seed": 7,
    "skip_bad_images": False,
}
"""What the first release wrote, entry for entry."""


def test_a_configuration_comes_back_as_it_was() -> None:
    config = small_config(Path("data"), seed=3, augment="flip")
    assert config_from_document(config_document(config)) == config


def test_a_run_of_the_first_release_goes_on() -> None:
    config = config_from_document(FIRST_RELEASE)
    assert {name: value for name, value in config_document(config).items() if name in FIRST_RELEASE} == FIRST_RELEASE
    defaults = {
        field.name: field.default if field.default_factory is MISSING else field.default_factory()
        for field in fields(TrainingConfig)
    }
    newer = config_document(config).keys() - FIRST_RELEASE.keys()
    assert {name: getattr(config, name) for name in newer} == {name: defaults[name] for name in newer}


def test_the_hash_of_what_the_first_release_could_be_asked_stays() -> None:
    """Task files state it: what decided a task then must be recognised."""
    config = config_from_document(FIRST_RELEASE)
    known = {name: value for name, value in FIRST_RELEASE.items() if name not in ("device", "skip_bad_images")}
    text = json.dumps({**known, "min_images": 0}, sort_keys=True)
    assert config.sha256 == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    "changes",
    [
        {"one_shot": True},
        {"pruning_epochs": 1},
        {"target_accuracy": 0.9},
        {"scope": Scope.STAGES, "stage_shares": (1.0, 2.0)},
    ],
)
def test_how_to_prune_is_part_of_the_hash_and_comes_back(changes: dict[str, object]) -> None:
    config = small_config(Path("data"), **changes)
    assert config.sha256 != small_config(Path("data")).sha256
    assert config_from_document(json.loads(json.dumps(config_document(config)))) == config


def test_every_entry_but_the_budget_may_be_missing() -> None:
    assert [
        field.name for field in fields(TrainingConfig) if field.default is MISSING and field.default_factory is MISSING
    ] == ["budget"]
    config = config_from_document({"budget": {"size_bytes": 5, "flops": None}})
    assert config.budget.size_bytes == 5
    with pytest.raises(ConfigError, match="budget"):
        config_from_document({})


def test_entries_of_a_newer_release_are_named() -> None:
    with pytest.raises(ConfigError, match=r"shine, sparkle\. A newer mimi-edge") as refused:
        config_from_document({**FIRST_RELEASE, "sparkle": 1, "shine": 2})
    assert __version__ in str(refused.value)


@pytest.mark.parametrize("name", ["learning_rate", "weight_decay", "start_ratio"])
@pytest.mark.parametrize("value", [float("inf"), float("nan"), -1.0])
def test_a_number_that_json_cannot_hold_is_no_setting(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"must be finite and .*{value}"):
        small_config(Path("data"), **{name: value})
