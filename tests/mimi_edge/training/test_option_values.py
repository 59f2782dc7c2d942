"""A configuration in the words of the command line, which gives the same configuration again."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from mimi_edge.budgets import Budget
from mimi_edge.choices import Scope, Store
from mimi_edge.cli.training_options import AskedConfig, takes_training_options
from mimi_edge.images.image_size import ImageSize
from mimi_edge.training.config import TrainingConfig
from mimi_edge.training.option_values import option_values, options_text

OTHER_THAN_DEFAULT = TrainingConfig(
    budget=Budget(123_457, 4_512_345_677),
    data="/data/it's: a #folder",
    backbone="vit_tiny_patch16_224",
    weights="/weights/1e-3",
    name="12:30",
    store=Store.INT8,
    epochs=3,
    batch_size=7,
    learning_rate=1e-07,
    weight_decay=0.0,
    label_smoothing=0.2,
    rho=0.3,
    start_ratio=2.5,
    score="l1",
    scope=Scope.STAGES,
    activation="relu",
    flops_count="paper",
    augment="flip",
    precision="fp32",
    device="cpu",
    seed=2**63 - 1,
    skip_bad_images=True,
    min_images=2,
    stage_shares=(1.0, 2.0, 4.0),
    one_shot=True,
    target_accuracy=0.9,
    image_size=ImageSize(96, 128),
    images="mapped",
    balance=True,
    data_columns="path=file",
    max_minutes=1.5,
    patience=4,
    tensorboard=True,
    grad_checkpointing=True,
    keep_rounds=False,
    head_store=Store.FP32,
    round_from="last",
    pruning_epochs=2,
    warm_up_epochs=1,
    decay_vectors=False,
    clip_norm=5.0,
    drop_path=0.1,
    mixup=0.8,
    cutmix=1.0,
    data_root="/data",
    download=True,
    train_images=800,
    val_images=200,
)


def read_again(config: TrainingConfig, folder: Path) -> TrainingConfig:
    """What the options of a run, as its folder keeps them, ask for."""
    path = folder / "options.yaml"
    path.write_text(options_text(config), "utf-8")
    asked_for: list[TrainingConfig] = []
    app = typer.Typer()

    @app.command()
    @takes_training_options
    def command(asked: AskedConfig) -> None:
        asked_for.append(asked.config())

    CliRunner().invoke(app, ["--config", str(path)], catch_exceptions=False)
    return asked_for[0]


@pytest.mark.parametrize(
    "config",
    [
        OTHER_THAN_DEFAULT,
        TrainingConfig(budget=Budget(1)),
        TrainingConfig(budget=Budget(1), train_on_val=True, passes_of=Store.FP16, val_interval=3),
        TrainingConfig(budget=Budget(1), passes=200),
        TrainingConfig(budget=Budget(500_000), method="lora", settings={"rank": 4, "alpha": 16.0}),
    ],
    ids=["everything", "nothing", "no validation", "passes", "a method's settings"],
)
def test_the_options_of_a_run_give_its_configuration(config: TrainingConfig, tmp_path: Path) -> None:
    assert read_again(config, tmp_path) == config


def test_everything_that_can_be_asked_for_is_tried_above() -> None:
    same = {one.name for one in fields(TrainingConfig) if getattr(OTHER_THAN_DEFAULT, one.name) == one.default}
    assert same <= {"method", "settings", "train_on_val", "passes_of", "passes", "val_interval"}


@given(size=st.integers(1, 10**14), flops=st.integers(1, 10**15))
def test_a_budget_in_units_is_the_same_to_the_byte(size: int, flops: int) -> None:
    from mimi_edge.budgets import budget_from_units

    values = option_values(TrainingConfig(budget=Budget(size, flops)))
    assert budget_from_units(values["budget-mb"], values["budget-gflops"]) == Budget(size, flops)
