"""The trainings of a comparison: ordinary run folders, each begun once and gone on with where it was interrupted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimi_edge.budgets import Budget, budget_from_units
from mimi_edge.documents import document_bytes, raw_document, typed_document
from mimi_edge.errors import BudgetInfeasibleError, ConfigError
from mimi_edge.events import Advance, Event, Listener, Note, silent
from mimi_edge.files import write_json
from mimi_edge.methods.catalogue import method_named
from mimi_edge.profiles.comparison.config import (
    KIND,
    ComparisonConfig,
    Entry,
    comparison_document,
    differences,
    entries_of,
)
from mimi_edge.texts import fault_list
from mimi_edge.training.config import CONFIG_FILE, MIMI, TrainingConfig
from mimi_edge.training.recipes import with_recipe

if TYPE_CHECKING:
    from mimi_edge.training.reports import TrainingReport

CONFIG = "comparison-config.json"
RUNS = "runs"
STAGE = "comparison"
ANY_SIZE = 10**15
"""Bytes that no task has: the budget of a method that has the size it has."""

Train = Callable[[TrainingConfig, Path], "TrainingReport"]
Trainings = Callable[[ComparisonConfig, Entry], int]
"""How often a method that prunes trains on its way to a line's budget."""


@dataclass(frozen=True)
class Trained:
    """What all trainings of a line came to.

    Attributes:
        entry: the line.
        learning_rate: that the validation split chose.
        tried: validation accuracy of the first seed, by learning rate.
        reports: of the chosen learning rate, one a seed.
        why_not: why there are none, in words.
    """

    entry: Entry
    learning_rate: float | None = None
    tried: dict[float, float] | None = None
    reports: tuple[TrainingReport, ...] = ()
    why_not: str | None = None


@contextmanager
def comparison_folder(config: ComparisonConfig, folder: Path) -> Iterator[None]:
    """Keeps a folder for one comparison while the block lasts.

    Raises:
        ConfigError: another process works in it, or it is of another comparison.
    """
    from mimi_edge.export.locks import locked

    folder.mkdir(parents=True, exist_ok=True)
    try:
        with locked(folder, wait=False):
            _claim(config, folder)
            yield
    except BlockingIOError:
        raise ConfigError(f"Another process is comparing in {folder}. Wait for it, or give another --output.") from None


def _claim(config: ComparisonConfig, folder: Path) -> None:
    path = folder / CONFIG
    if not path.exists():
        if any(folder.glob("[!.]*")):
            raise ConfigError(f"{folder} holds something else. Give a new folder as --output.")
        write_json(path, comparison_document(config))
        return
    document = raw_document(document_bytes(path, KIND), path, KIND)
    if differing := differences(config, typed_document(document, path, KIND, ComparisonConfig)):
        raise ConfigError(
            f"{folder} holds another comparison:\n{fault_list(differing)}\n"
            "Give the same options to go on, or another --output."
        )
    write_json(path, comparison_document(config))


def train_all(
    config: ComparisonConfig, folder: Path, train: Train, trainings: Trainings, listener: Listener = silent
) -> list[Trained]:
    """Trains whatever is not trained yet.

    Args:
        config: what to compare.
        folder: of the comparison.
        train: trains in a run folder, or goes on there, or reports what is finished.
        trainings: how often a method that prunes trains.
        listener: hears how far it is.

    Raises:
        StoppedError: it was asked to stop; everything that was trained is kept.
    """
    entries = entries_of(config)
    finals = config.seeds if config.train_on_val else config.seeds - 1
    total = len(entries) * (len(config.learning_rates) + finals)
    trained = []
    for number, entry in enumerate(entries):
        listener(Advance(STAGE, number * total // len(entries), total, {"training": entry.name}))
        try:
            trained.append(_train_entry(config, entry, folder, train, trainings, listener))
        except (ConfigError, BudgetInfeasibleError) as error:
            listener(Note(f"{entry.name} is left out: {error}"))
            trained.append(Trained(entry, why_not=str(error)))
    listener(Advance(STAGE, total, total))
    return trained


def _train_entry(
    config: ComparisonConfig, entry: Entry, folder: Path, train: Train, trainings: Trainings, listener: Listener
) -> Trained:
    epochs = epochs_of(config, entry, trainings)

    def run(rate: float, seed: int, *, on_val: bool = False) -> TrainingReport:
        both = ", on validation images, too" if on_val else ""
        listener(Note(f"Training {entry.name}, learning rate {rate:g}, seed {seed}{both}."))
        trial = training_config(config, entry, epochs=epochs, rate=rate, seed=seed)
        where = folder / RUNS / f"{entry.name}-lr{rate:g}-seed{seed}"
        return train(replace(trial, train_on_val=on_val), where.with_name(where.name + "-both") if on_val else where)

    first = {rate: run(rate, 0) for rate in config.learning_rates}
    tried = {rate: report.accuracy["val"].accuracy for rate, report in first.items()}
    # Of two that are equally good on the validation split, the smaller.
    chosen = max(sorted(tried), key=lambda rate: tried[rate])
    if config.train_on_val:
        reports = tuple(run(chosen, seed, on_val=True) for seed in range(config.seeds))
    else:
        reports = (first[chosen], *(run(chosen, seed) for seed in range(1, config.seeds)))
    return Trained(entry, chosen, tried, reports)


def epochs_of(config: ComparisonConfig, entry: Entry, trainings: Trainings) -> int:
    """Of an entry's trainings, such that all take as many passes over the images as MiMi does, as the paper demands.

    What trains once has all in one. A method that has the size it has gets the passes of the smallest budget, which are
    the most. Where a number was asked for, it is that.
    """
    if entry.method.prunes:
        return config.epochs
    if config.passes is not None:
        return config.passes
    budget = min(config.budgets_mb) if entry.budget_mb is None else entry.budget_mb
    return config.epochs * trainings(config, Entry(method_named(MIMI), budget))


def training_config(config: ComparisonConfig, entry: Entry, *, epochs: int, rate: float, seed: int) -> TrainingConfig:
    """One training of a comparison."""
    budget = Budget(size_bytes=ANY_SIZE) if entry.budget_mb is None else budget_from_units(entry.budget_mb, None)
    pruning: dict[str, Any] = {"score": config.score, "scope": config.scope} if entry.method.prunes else {}
    if entry.method.prunes and config.passes is not None:
        pruning["passes"] = config.passes
    elif entry.method.prunes and entry.own_store is not None:
        pruning["passes_of"] = config.store
    asked = {"epochs": epochs, "batch_size": config.batch_size, "learning_rate": rate}
    return TrainingConfig(
        budget=budget,
        data=config.data,
        data_columns=config.data_columns,
        data_root=config.data_root,
        download=config.download,
        train_images=config.train_images,
        val_images=config.val_images,
        backbone=config.backbone,
        weights=config.weights,
        image_size=config.image_size,
        name=entry.name,
        store=entry.own_store or config.store,
        seed=seed,
        method=entry.method.name,
        keep_rounds=False,
        **pruning,
        **with_recipe(config.recipe, asked),
    )


def planned_trainings(config: ComparisonConfig, entry: Entry) -> int:
    """How often a method that prunes trains on its way to a line's budget; once where nothing can meet it."""
    from mimi_edge.training.prepared_run import prepare

    trial = training_config(config, entry, epochs=config.epochs, rate=config.learning_rates[0], seed=0)
    try:
        return prepare(trial).schedule.trainings
    except BudgetInfeasibleError:
        return 1


def train_or_go_on(listener: Listener = silent, should_stop: Callable[[], bool] = lambda: False) -> Train:
    """A function that makes a run folder whole, whatever is in it, and gives its report."""
    from mimi_edge.training.reports import finished_report
    from mimi_edge.training.runs import resume_training, run_training

    said: set[str] = set()

    def train(config: TrainingConfig, folder: Path) -> TrainingReport:
        if (report := finished_report(folder, config.name)) is not None:
            return report
        heard = _without_what_was_said(said, listener)
        if (folder / CONFIG_FILE).is_file():
            return resume_training(folder, listener=heard, should_stop=should_stop)
        return run_training(config, folder, listener=heard, should_stop=should_stop)

    return train


def _without_what_was_said(said: set[str], listener: Listener) -> Listener:
    """Of what is told before a training's first step, which is about data and backbone, only what is new."""
    has_begun = False

    def hear(event: Event) -> None:
        nonlocal has_begun
        has_begun = has_begun or isinstance(event, Advance)
        if isinstance(event, Note) and not has_begun:
            if event.text in said:
                return
            said.add(event.text)
        listener(event)

    return hear
