"""Whole runs of methods other than MiMi: one training, the largest size that fits, the same bytes after a stop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from training_samples import small_config

from mimi_edge.budgets import Budget
from mimi_edge.errors import BudgetInfeasibleError, ConfigError, StoppedError
from mimi_edge.tasks.files import read_task
from mimi_edge.training.config import config_document, config_from_document
from mimi_edge.training.prepared_run import prepare
from mimi_edge.training.runs import resume_training, run_training

METHODS = ("lora", "vpt-deep", "bitfit", "sidetune", "full", "sparse-adapter")


def after(steps: int) -> Callable[[], bool]:
    asked = iter(range(1_000_000))
    return lambda: next(asked) >= steps


@pytest.mark.parametrize("method", METHODS)
def test_a_stopped_run_ends_with_the_same_bytes(method: str, pictures: Path, tmp_path: Path) -> None:
    config = small_config(pictures, method=method, epochs=1, budget=Budget(size_bytes=80_000))
    whole = run_training(config, tmp_path / "whole")
    with pytest.raises(StoppedError):
        run_training(config, tmp_path / "stopped", should_stop=after(2))
    again = resume_training(tmp_path / "stopped")
    assert again.task_file.read_bytes() == whole.task_file.read_bytes()
    assert whole.task_file.stat().st_size == whole.cost.size_bytes
    assert (len(whole.neurons), len(whole.validation)) == (1, 1)
    task = read_task(whole.task_file)
    assert task.header.method.name == method
    assert task.header.accuracy.keys() == {"val", "test"}


@pytest.mark.parametrize(
    ("method", "size", "budget"),
    [
        ("adapters", "neurons", 3_500),
        ("adapters", "neurons", 4_500),
        ("lora", "rank", 3_500),
        ("lora", "rank", 4_500),
        ("vpt-deep", "tokens", 2_500),
        ("phm", "neurons", 7_500),
        ("phm", "neurons", 9_000),
        ("sparse-adapter", "neurons", 3_500),
        ("sparse-adapter", "neurons", 4_500),
    ],
)
def test_the_budget_chooses_the_largest_size_that_fits(method: str, size: str, budget: int, pictures: Path) -> None:
    def prepared(settings: Mapping[str, int], size_bytes: int):
        config = small_config(pictures, method=method, settings=settings, budget=Budget(size_bytes=size_bytes))
        return prepare(config)

    found = prepared({}, budget)
    chosen = found.costs.header.method.settings[size]
    step = 4 if method == "phm" else 1
    assert found.start_cost.size_bytes <= budget
    assert prepared({size: chosen}, budget).start_cost == found.start_cost
    larger = prepared({size: chosen + step}, 10**6).start_cost.size_bytes
    assert larger > budget or chosen == 16  # channels of the widest site
    if larger > budget:
        with pytest.raises(BudgetInfeasibleError, match=f"{larger:,} bytes with"):
            prepared({size: chosen + step}, budget)


@pytest.mark.parametrize(
    ("method", "settings", "fault"),
    [
        ("lora", {"neurons": 3}, "--neurons: lora has no such setting. It has --rank, --alpha"),
        ("lora", {"rank": 0}, "--rank must lie between 1 and"),
        ("lora", {"rank": 2.5}, "--rank must be of type int"),
        ("bitfit", {"tables": "perhaps"}, "--tables must be one of no, yes"),
        ("sparse-adapter", {"mask": "best"}, "--mask must be one of snip, magnitude, random"),
        ("linear", {"rank": 1}, "It has no settings"),
        ("lorra", {}, "--method: there is no method 'lorra'. Similar: lora"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    method: str, settings: dict[str, object], fault: str, pictures: Path
) -> None:
    with pytest.raises(ConfigError) as refused:
        small_config(pictures, method=method, settings=settings)
    assert fault in str(refused.value)


def test_a_configuration_comes_back_from_its_document(pictures: Path) -> None:
    config = small_config(pictures, method="lora", settings={"rank": 3, "alpha": 6.0})
    assert config_from_document(config_document(config)) == config


def test_the_hash_of_a_run_of_mimi_is_that_of_the_first_release(pictures: Path) -> None:
    plain, other = small_config(pictures), small_config(pictures, method="linear")
    assert plain.sha256 != other.sha256
    assert (
        config_from_document(
            {name: value for name, value in config_document(plain).items() if name not in ("method", "settings")}
        ).sha256
        == plain.sha256
    )
