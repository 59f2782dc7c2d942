"""`--method mimi+`: one bit, and the passes of sixteen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from training_samples import small_config

from mimi_edge.choices import Store
from mimi_edge.errors import ConfigError
from mimi_edge.schedule import Schedule
from mimi_edge.tasks.files import read_task
from mimi_edge.training.asked_config import asked_config
from mimi_edge.training.config import LOG_FILE, TrainingConfig
from mimi_edge.training.prepared_run import prepare
from mimi_edge.training.runs import run_training


def test_it_is_mimi_in_one_bit_with_the_passes_of_sixteen() -> None:
    config = asked_config(budget_mb=0.1, method="mimi+", epochs=3)
    assert (config.method, config.store, config.passes_of, config.epochs) == ("mimi", Store.INT1, Store.FP16, 3)
    assert asked_config(budget_mb=0.1, method="mimi+", store=Store.INT2).store is Store.INT2
    assert asked_config(budget_mb=0.1, store=None) == asked_config(budget_mb=0.1)
    assert asked_config(budget_mb=0.1).store is TrainingConfig.store


def test_what_is_pruned_less_often_trains_longest_at_the_end(pictures: Path) -> None:
    wide = small_config(
        pictures, store=Store.FP16, epochs=2, budget=replace(small_config(pictures).budget, size_bytes=2_500)
    )
    narrow = replace(wide, store=Store.INT1)
    long, short, same = (prepare(one).epochs for one in (wide, narrow, replace(narrow, passes_of=Store.FP16)))
    assert len(short) < len(long)
    assert (same[:-1], sum(same)) == (short[:-1], sum(long))
    assert prepare(replace(wide, passes_of=Store.FP16)).epochs == long


def test_a_schedule_is_never_shortened() -> None:
    assert Schedule((), 1).as_long_as(Schedule((), 1)) == Schedule((), 1)
    assert Schedule((None,) * 3).as_long_as(Schedule(())).epochs(2) == (2, 2, 2, 2)
    assert Schedule((None,)).as_long_as(Schedule((None,) * 3)).epochs(2, 1) == (1, 4)


def test_such_a_run_takes_its_passes(pictures: Path, tmp_path: Path) -> None:
    config = small_config(pictures, store=Store.INT1, passes_of=Store.FP16, epochs=1)
    report = run_training(config, tmp_path / "run")
    assert report.cost.size_bytes <= 5_000
    assert read_task(report.task_file).header.store is Store.INT1
    assert len(report.validation) == len(prepare(config).epochs)


def test_passes_that_were_asked_for_take_the_place_of_those_of_sixteen_bits(pictures: Path) -> None:
    config = asked_config(budget_mb=0.1, method="mimi+", epochs=1, passes=9)
    assert (config.passes, config.passes_of) == (9, None)
    with pytest.raises(ConfigError, match="--passes and --passes-of"):
        small_config(pictures, passes=9, passes_of=Store.FP16)


def test_a_run_takes_the_passes_that_were_asked_for(pictures: Path, tmp_path: Path) -> None:
    config = small_config(pictures, epochs=1, passes=5)
    planned = prepare(config).epochs
    assert (sum(planned), set(planned[:-1])) == (5, {1})
    run_training(config, tmp_path / "run")
    assert len((tmp_path / "run" / LOG_FILE).read_text("utf-8").splitlines()) == 1 + 5
    assert prepare(small_config(pictures, method="lora", epochs=1, passes=5)).epochs == (5,)


def test_passes_that_do_not_reach_are_refused_before_training(pictures: Path) -> None:
    before = sum(prepare(small_config(pictures, epochs=3)).epochs[:-1])
    with pytest.raises(ConfigError, match=f"at least {before + 1}"):
        prepare(small_config(pictures, epochs=3, passes=before))
    with pytest.raises(ConfigError, match="--warm-up-epochs must be fewer than the 1 "):
        prepare(small_config(pictures, epochs=3, passes=before + 1, warm_up_epochs=2))


def test_a_warm_up_may_be_as_long_as_the_passes_that_were_asked_for_allow(pictures: Path) -> None:
    config = small_config(pictures, method="lora", epochs=3, passes=9, warm_up_epochs=8)
    assert prepare(config).epochs == (9,)
    with pytest.raises(ConfigError, match="--warm-up-epochs must be at least 0, and fewer than the 9 "):
        small_config(pictures, method="lora", epochs=3, passes=9, warm_up_epochs=9)


def test_it_is_for_what_is_pruned_round_by_round(pictures: Path) -> None:
    for wrong in ({"method": "lora"}, {"one_shot": True}):
        with pytest.raises(ConfigError, match="--passes-of"):
            small_config(pictures, passes_of=Store.FP16, **wrong)
