"""How long to train before each pruning: settings of MiMi and of adapters, side by side, a line of CSV for each run.

The file grows as runs end, and the same command goes on where it stopped. Settings are to be chosen by the column
`val`; `test` is there for what was chosen. `image_passes` says what a run cost: images times epochs, of all trainings.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from growing_csv import GrowingCsv

from mimi_edge.budgets import budget_from_units
from mimi_edge.choices import Scope
from mimi_edge.selection import Neuron
from mimi_edge.training import loop, pruning
from mimi_edge.training.config import TrainingConfig
from mimi_edge.training.prepared_run import prepare
from mimi_edge.training.reports import TrainingReport
from mimi_edge.training.runs import run_training

DATASETS = ("builtin:digits", "builtin:fashion")
KEYS = ("data", "budget_mb", "seed", "of_each", "setting")
VALUES = ("epochs", "image_passes", "size_bytes", "val", "test", "seconds")


@dataclass(frozen=True)
class Setting:
    """Something to try.

    Attributes:
        shares: of `--epochs`, for the trainings before a pruning and for the last one.
        options: entries of the configuration that differ from their defaults.
        later_rates: what the learning rate of every training but the first is multiplied by.
        keeps_moments: whether the optimizer's moments survive a pruning.
        keeps_sites: whether every site keeps its best neuron, so that no adapter goes as a whole.
        once: the passes of all trainings in a single one, of directly trained adapters.
    """

    shares: tuple[float, float] = (1, 1)
    options: Mapping[str, Any] = field(default_factory=dict)
    later_rates: float = 1
    keeps_moments: bool = True
    keeps_sites: bool = False
    once: bool = False


ADAPTERS = {"method": "adapters"}
FASTER = {"learning_rate": 1e-2}
SETTINGS = {
    "a third before prunings": Setting((1 / 3, 1)),
    "adapters, passes of 'a third'": Setting((1 / 3, 1), ADAPTERS, once=True),
    "all alike": Setting(),
    "a third, start ratio 4": Setting((1 / 3, 1), {"start_ratio": 4.0}),
    "a third, rate 4e-3": Setting((1 / 3, 1), {"learning_rate": 4e-3}),
    "adapters, passes of 'a third', rate 4e-3": Setting((1 / 3, 1), ADAPTERS | {"learning_rate": 4e-3}, once=True),
    "all alike, rate 1e-2": Setting(options=FASTER),
    "all alike, rate 1e-2, moments reset": Setting(options=FASTER, keeps_moments=False),
    "all alike, rate 1e-2, later rates halved": Setting(options=FASTER, later_rates=0.5),
    "all alike, rate 1e-2, local": Setting(options=FASTER | {"scope": Scope.LOCAL}),
    "all alike, rate 1e-2, score l1": Setting(options=FASTER | {"score": "l1"}),
    "start ratio 4, last three times, rate 1e-2": Setting((1, 3), FASTER | {"start_ratio": 4.0}),
    "one shot, rate 1e-2": Setting(options=FASTER | {"one_shot": True}),
    "two prunings, last four times, rate 1e-2": Setting((1, 4), FASTER | {"rho": 0.82}),
    "adapters, passes of 'all alike', rate 1e-2": Setting(options=ADAPTERS | FASTER, once=True),
    "all alike, local": Setting(options={"scope": Scope.LOCAL}),
    "all alike, score l1": Setting(options={"score": "l1"}),
    "all alike, no site loses all": Setting(keeps_sites=True),
    "one shot": Setting(options={"one_shot": True}),
    "two prunings, last four times": Setting((1, 4), {"rho": 0.82}),
    "adapters, passes of 'all alike'": Setting(options=ADAPTERS, once=True),
    "a third, moments reset": Setting((1 / 3, 1), keeps_moments=False),
    "a third, later rates halved": Setting((1 / 3, 1), later_rates=0.5),
    "a sixth before prunings": Setting((1 / 6, 1)),
    "a third, rho .9": Setting((1 / 3, 1), {"rho": 0.9}),
    "a third, score l1": Setting((1 / 3, 1), {"score": "l1"}),
    "a third, local": Setting((1 / 3, 1), {"scope": Scope.LOCAL}),
}


def main() -> None:
    """Takes all runs that the file has not."""
    options = _options()
    torch.set_num_threads(1)
    lines = GrowingCsv(options.out, KEYS, VALUES)
    for budget_mb, seed, name, data in product(options.budgets_mb, options.seeds, options.settings, options.data):
        budget = budget_from_units(budget_mb, None)
        config = TrainingConfig(budget, data, epochs=options.epochs, seed=seed, keep_rounds=False)
        key = (data, f"{budget_mb:g}", str(seed), str(options.epochs), name)
        if not lines.has(key):
            lines.add(key, _values(config, SETTINGS[name]))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="+", default=list(DATASETS))
    parser.add_argument(
        "--epochs", type=int, default=TrainingConfig.epochs, help="of each training, where all are alike"
    )
    parser.add_argument("--budgets-mb", nargs="+", type=float, default=[0.1, 0.03])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS), metavar="NAME")
    parser.add_argument("--out", type=Path, default=Path("recipes.csv"))
    return parser.parse_args()


def _values(config: TrainingConfig, setting: Setting) -> tuple[Any, ...]:
    epochs, trained = _trained(config, setting)
    report = _report(trained, setting)
    images = len(prepare(config).dataset.splits["train"])
    return (
        " ".join(map(str, epochs)),
        images * sum(epochs),
        report.cost.size_bytes,
        *(f"{report.accuracy[split].accuracy:.4f}" for split in ("val", "test")),
        f"{report.seconds:.0f}",
    )


def _trained(config: TrainingConfig, setting: Setting) -> tuple[tuple[int, ...], TrainingConfig]:
    """The epochs of each training under a setting, and the run that has them."""
    before, last = (max(1, round(config.epochs * share)) for share in setting.shares)
    pruned = replace(config, epochs=last, pruning_epochs=before, **({} if setting.once else setting.options))
    epochs = prepare(pruned).epochs
    if not setting.once:
        return epochs, pruned
    return (sum(epochs),), replace(config, epochs=sum(epochs), **setting.options)


def _report(config: TrainingConfig, setting: Setting) -> TrainingReport:
    with tempfile.TemporaryDirectory() as folder, _tried(setting):
        return run_training(config, Path(folder) / "run")


@contextmanager
def _tried(setting: Setting) -> Iterator[None]:
    """Meanwhile training does what there is no option for."""
    step, strip, ranking = loop.training_step, pruning.strip, pruning.ranking

    def stepped(model: Any, optimizer: Any, inputs: Any, index: Any, config: Any, place: Any, passes: Any) -> Any:
        if place.round > 0:
            for group in optimizer.param_groups:
                group["lr"] *= setting.later_rates
        return step(model, optimizer, inputs, index, config, place, passes)

    def stripped(model: Any, kept: Any, optimizer: Any) -> None:
        strip(model, kept, optimizer)
        if not setting.keeps_moments:
            optimizer.state.clear()

    def ranked(scores: Any, scope: Scope, stages: Any) -> list[Neuron]:
        neurons = ranking(scores, scope, stages)
        if not setting.keeps_sites:
            return neurons
        best = {neuron.site: neuron for neuron in reversed(neurons)}
        return sorted(neurons, key=lambda neuron: best[neuron.site] is not neuron)

    with (
        patch.object(loop, "training_step", stepped),
        patch.object(pruning, "strip", stripped),
        patch.object(pruning, "ranking", ranked),
    ):
        yield


if __name__ == "__main__":
    main()
