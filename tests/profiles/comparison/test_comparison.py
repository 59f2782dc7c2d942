"""Comparisons with a stand-in for training: who is tried how often, who chooses, what is written, what goes on."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_package import make_task

from mimi_edge.budgets import Budget, Cost
from mimi_edge.choices import Scope, Store
from mimi_edge.errors import BudgetInfeasibleError, ConfigError, StoppedError
from mimi_edge.events import Advance, Event, Listener, Note
from mimi_edge.export.locks import locked
from mimi_edge.profiles.comparison import chart
from mimi_edge.profiles.comparison.chart import pareto_front
from mimi_edge.profiles.comparison.compare import (
    CHART_FILES,
    CSV_FILE,
    JSON_FILE,
    MARKDOWN_FILE,
    Comparison,
    compare,
)
from mimi_edge.profiles.comparison.config import ComparisonConfig, entries_of
from mimi_edge.profiles.comparison.results import Line
from mimi_edge.profiles.comparison.trials import ANY_SIZE, train_or_go_on
from mimi_edge.tasks.files import write_task
from mimi_edge.tasks.task import SplitAccuracy
from mimi_edge.training import runs
from mimi_edge.training.config import TrainingConfig
from mimi_edge.training.recipes import PAPER, RECIPES
from mimi_edge.training.reports import TrainingReport

SMALL = ComparisonConfig(methods=("mimi", "lora", "linear"), budgets_mb=(0.5, 0.1), seeds=2, learning_rates=(0.1, 0.01))


class Laboratory:
    """Trains nothing; validation likes the lower learning rate, the test split the higher one."""

    def __init__(self, patience: int = 1000) -> None:
        self.begun: list[str] = []
        self.configs: dict[str, TrainingConfig] = {}
        self.patience = patience

    def train(self, config: TrainingConfig, folder: Path) -> TrainingReport:
        task_file = folder / f"{config.name}.safetensors"
        if not task_file.exists():
            if len(self.begun) >= self.patience:
                raise StoppedError("stopped")
            self.begun.append(folder.name)
            folder.mkdir(parents=True)
            write_task(make_task(config.name, (1, 0, 2)), task_file)
        self.configs[folder.name] = config
        liked = config.learning_rate < 0.05
        return TrainingReport(
            task_file=task_file,
            cost=Cost(task_file.stat().st_size, 2_000_000_000),
            budget={"size_bytes": config.budget.size_bytes, "flops": None},
            next_neuron=None,
            neurons=({},),
            accuracy={
                "val": SplitAccuracy(0.9 if liked else 0.5, 10),
                "test": SplitAccuracy((0.6 if liked else 0.95) + 0.1 * config.seed, 20),
            },
            validation=(0.9,),
            frozen_blocks=0,
            seconds=7.0,
        )

    def compare(self, folder: Path, config: ComparisonConfig = SMALL) -> Comparison:
        return compare(config, folder, self.train, lambda _: None, trainings=lambda _, __: 4)


def test_the_validation_split_chooses_the_learning_rate_and_the_test_split_is_only_reported(tmp_path: Path) -> None:
    found = Laboratory().compare(tmp_path / "out")
    for line in found.lines:
        assert line.learning_rate == 0.01
        assert line.tried == {"0.1": 0.5, "0.01": 0.9}
        assert line.test == pytest.approx((0.6, 0.7))
        assert (line.mean, line.deviation) == (pytest.approx(0.65), pytest.approx(0.0707, abs=1e-4))


def test_every_method_gets_as_many_tries_and_passes(tmp_path: Path) -> None:
    laboratory = Laboratory()
    laboratory.compare(tmp_path / "out")
    assert len(laboratory.begun) == len(entries_of(SMALL)) * (2 + 1)
    assert {config.epochs for config in laboratory.configs.values() if config.method == "mimi"} == {SMALL.epochs}
    assert {config.epochs for config in laboratory.configs.values() if config.method != "mimi"} == {4 * SMALL.epochs}
    assert {config.seed for name, config in laboratory.configs.items() if "lr0.1" in name} == {0}


def test_every_line_may_be_given_the_same_passes_at_every_budget(tmp_path: Path) -> None:
    laboratory = Laboratory()
    asked = replace(SMALL, methods=("mimi", "mimi+", "lora", "linear"), epochs=1, passes=9)
    found = laboratory.compare(tmp_path / "out", asked)
    given = {(one.method, one.epochs, one.passes, one.passes_of) for one in laboratory.configs.values()}
    assert given == {("mimi", 1, 9, None), ("lora", 9, None, None), ("linear", 9, None, None)}
    assert "9 passes" in (found.folder / MARKDOWN_FILE).read_text("utf-8")
    with pytest.raises(ConfigError, match="passes: 9 there, None here"):
        laboratory.compare(tmp_path / "out", replace(asked, passes=None))
    with pytest.raises(ConfigError, match="--passes"):
        replace(asked, passes=0)


def test_score_and_scope_are_for_the_methods_that_are_pruned(tmp_path: Path) -> None:
    laboratory = Laboratory()
    laboratory.compare(tmp_path / "out", replace(SMALL, score="snip", scope=Scope.LOCAL))
    asked = {(config.method, config.score, config.scope) for config in laboratory.configs.values()}
    assert asked == {
        ("mimi", "snip", Scope.LOCAL),
        ("lora", "mimi", Scope.GLOBAL),
        ("linear", "mimi", Scope.GLOBAL),
    }
    with pytest.raises(ConfigError, match="score: snip there, mimi here"):
        laboratory.compare(tmp_path / "out")


def test_a_method_without_a_size_is_shown_once_at_the_size_it_has(tmp_path: Path) -> None:
    laboratory = Laboratory()
    found = laboratory.compare(tmp_path / "out")
    assert [(line.method, line.budget_bytes) for line in found.lines] == [
        ("mimi", 500_000),
        ("mimi", 100_000),
        ("lora", 500_000),
        ("lora", 100_000),
        ("linear", None),
    ]
    assert laboratory.configs["linear-lr0.01-seed0"].budget.size_bytes == ANY_SIZE
    assert laboratory.configs["lora-0.1mb-lr0.01-seed1"].budget.size_bytes == 100_000


def test_a_method_may_keep_its_weights_in_another_way(tmp_path: Path) -> None:
    laboratory = Laboratory()
    found = laboratory.compare(tmp_path / "out", replace(SMALL, methods=("mimi", "mimi@int1"), budgets_mb=(0.1,)))
    assert [(line.method, line.title) for line in found.lines] == [("mimi", "MiMi"), ("mimi@int1", "MiMi, int1")]
    assert {config.epochs for config in laboratory.configs.values()} == {SMALL.epochs}
    passes = {config.name: config.passes_of for config in laboratory.configs.values()}
    assert passes == {"mimi-0.1mb": None, "mimi-int1-0.1mb": Store.FP16}
    assert entries_of(replace(SMALL, methods=("mimi+",))) == entries_of(replace(SMALL, methods=("mimi@int1",)))
    stores = {config.name: config.store for config in laboratory.configs.values()}
    assert stores == {"mimi-0.1mb": Store.FP16, "mimi-int1-0.1mb": Store.INT1}
    with pytest.raises(ConfigError, match=r"mimi@int3.*expected one of fp32"):
        replace(SMALL, methods=("mimi@int3",))


def test_a_stopped_comparison_goes_on_and_repeats_nothing(tmp_path: Path) -> None:
    first, second = Laboratory(patience=5), Laboratory()
    with pytest.raises(StoppedError):
        first.compare(tmp_path / "out")
    found = second.compare(tmp_path / "out")
    assert not set(first.begun) & set(second.begun)
    assert len(first.begun) + len(second.begun) == 15
    assert found.lines == Laboratory().compare(tmp_path / "another").lines


def test_other_options_are_refused_with_what_differs(tmp_path: Path) -> None:
    Laboratory().compare(tmp_path / "out")
    with pytest.raises(ConfigError, match="another comparison") as refused:
        Laboratory().compare(tmp_path / "out", replace(SMALL, budgets_mb=(0.5,), methods=("mimi",)))
    assert "budgets_mb: " in str(refused.value)
    assert "methods" not in str(refused.value)


def test_more_seeds_methods_and_rates_go_on_with_what_is_trained(tmp_path: Path) -> None:
    first, second = Laboratory(), Laboratory()
    first.compare(tmp_path / "out", replace(SMALL, methods=("mimi",), seeds=1))
    found = second.compare(tmp_path / "out", replace(SMALL, learning_rates=(0.1, 0.01, 0.001)))
    assert not set(first.begun) & set(second.begun)
    assert [line.tried for line in found.lines] == [{"0.1": 0.5, "0.01": 0.9, "0.001": 0.9}] * 5
    assert Laboratory(patience=0).compare(tmp_path / "out", replace(SMALL, learning_rates=(0.1, 0.01, 0.001))) == found


def test_once_more_on_both_is_what_is_compared(tmp_path: Path) -> None:
    laboratory = Laboratory()
    asked = replace(SMALL, methods=("lora",), budgets_mb=(0.1,), train_images=800, val_images=200, train_on_val=True)
    (line,) = laboratory.compare(tmp_path / "out", asked).lines
    assert laboratory.begun == [
        "lora-0.1mb-lr0.1-seed0",
        "lora-0.1mb-lr0.01-seed0",
        "lora-0.1mb-lr0.01-seed0-both",
        "lora-0.1mb-lr0.01-seed1-both",
    ]
    assert [laboratory.configs[name].train_on_val for name in laboratory.begun] == [False, False, True, True]
    assert {(one.train_images, one.val_images) for one in laboratory.configs.values()} == {(800, 200)}
    assert (line.tried, len(line.test)) == ({"0.1": 0.5, "0.01": 0.9}, 2)


def test_what_is_said_of_the_data_is_said_once_and_what_is_said_of_a_training_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(config: TrainingConfig, folder: Path, listener: Listener, should_stop: object) -> None:
        listener(Note("Ten images."))
        listener(Note(f"Training {config.method}."))
        listener(Advance("training", 0, 1))
        listener(Note("Half of them are recognised."))

    monkeypatch.setattr(runs, "run_training", run)
    heard: list[Event] = []
    train = train_or_go_on(heard.append)
    for method in ("mimi", "lora"):
        train(TrainingConfig(Budget(size_bytes=1), method=method), tmp_path / method)
    assert [event.text for event in heard if isinstance(event, Note)] == [
        "Ten images.",
        "Training mimi.",
        "Half of them are recognised.",
        "Training lora.",
        "Half of them are recognised.",
    ]


def test_a_folder_with_something_else_and_one_that_is_worked_in_are_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    with pytest.raises(ConfigError, match="something else"):
        Laboratory().compare(tmp_path / "mine")
    (tmp_path / "busy").mkdir()
    with locked(tmp_path / "busy"), pytest.raises(ConfigError, match="Another process"):
        Laboratory().compare(tmp_path / "busy")


@pytest.mark.parametrize("error", [ConfigError("needs a plain ViT"), BudgetInfeasibleError("too small")])
def test_what_cannot_be_trained_is_a_line_with_the_reason(tmp_path: Path, error: Exception) -> None:
    laboratory = Laboratory()

    def train(config: TrainingConfig, folder: Path) -> TrainingReport:
        if config.method == "lora":
            raise error
        return laboratory.train(config, folder)

    found = compare(SMALL, tmp_path / "out", train, lambda _: None, trainings=lambda _, __: 1)
    assert [line.why_not for line in found.lines if line.method == "lora"] == [str(error)] * 2
    assert all(line.why_not is None for line in found.lines if line.method != "lora")
    assert str(error) in (tmp_path / "out" / MARKDOWN_FILE).read_text()


def test_all_forms_say_the_same(tmp_path: Path) -> None:
    found = Laboratory().compare(tmp_path / "out")
    document = json.loads((tmp_path / "out" / JSON_FILE).read_text())
    rows = list(csv.DictReader((tmp_path / "out" / CSV_FILE).read_text().splitlines()))
    text = (tmp_path / "out" / MARKDOWN_FILE).read_text()
    for line, entry, row in zip(found.lines, document["lines"], rows, strict=True):
        assert entry["method"] == row["method"] == line.method
        assert entry["size_bytes"] == int(row["size_bytes"]) == line.size_bytes
        assert entry["test"] == [float(row["test_0"]), float(row["test_1"])] == list(line.test)
        assert f"| {line.title} |" in text
        assert f"{line.size_bytes:,}" in text
    assert "65.00% ± 7.07" in text
    for name in CHART_FILES:
        assert (tmp_path / "out" / name).stat().st_size > 5_000


def test_the_front_is_what_nothing_beats_in_both() -> None:
    def line(size: int, accuracy: float) -> Line:
        return Line("m", "M", None, size_bytes=size, test=(accuracy,))

    small, better, worse, best = line(10, 0.5), line(20, 0.7), line(30, 0.6), line(40, 0.9)
    assert pareto_front([worse, best, small, better]) == [small, better, best]


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"methods": ()}, "--methods"),
        ({"methods": ("mimi", "mimi")}, "--methods"),
        ({"methods": ("mimmi",)}, "--methods: there is no method 'mimmi'. Similar: mimi"),
        ({"budgets_mb": (0.0,)}, "--budget-mb"),
        ({"budgets_mb": (float("nan"),)}, "--budget-mb"),
        ({"seeds": 0}, "--seeds"),
        ({"learning_rates": (0.1, 0.1)}, "--lrs"),
        ({"rounds": -1}, "--rounds"),
        ({"score": "best"}, "--score must be one of"),
        ({"scope": Scope.STAGES}, "--scope stages"),
    ],
)
def test_nonsense_is_refused(changes: dict[str, object], fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        ComparisonConfig(**changes)


def test_a_recipe_is_for_all_methods(tmp_path: Path) -> None:
    laboratory = Laboratory()
    laboratory.compare(tmp_path / "out", replace(SMALL, recipe=PAPER))
    configs = laboratory.configs.values()
    assert {config.method for config in configs} == {"mimi", "lora", "linear"}
    assert {(config.mixup, config.augment, config.decay_vectors) for config in configs} == {
        (RECIPES[PAPER]["mixup"], RECIPES[PAPER]["augment"], False)
    }
    with pytest.raises(ConfigError, match="recipe: paper there, quick here"):
        laboratory.compare(tmp_path / "out")


def test_an_unknown_recipe_is_refused() -> None:
    with pytest.raises(ConfigError, match="--recipe"):
        replace(SMALL, recipe="slow")


@pytest.mark.parametrize("count", [2, 24])
def test_the_legend_stays_off_the_title(count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr(chart, "save", lambda figure, _: drawn.append(figure))
    lines = [Line(f"m{n}", f"Method {n}", 1, size_bytes=10_000 * (n + 1), test=(0.5, 0.6)) for n in range(count)]
    chart.draw_pareto(lines, tmp_path / "x.png", "generated:sprites-location on vit_small_patch14_dinov2")
    (figure,) = drawn
    figure.draw_without_rendering()
    (title,) = [text for text in figure.texts if text.get_text().startswith("generated")]
    assert not title.get_window_extent().overlaps(figure.legends[0].get_window_extent())
