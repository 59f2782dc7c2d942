"""Test accuracy at one budget: linear probe, adapters trained at their final size, MiMi; the same epochs and seeds.

All three use the same head, optimizer, schedule and images. The linear probe has no adapters; it is tried at several
learning rates, and the one that is best on the validation split counts, since a head alone wants a higher one.
"direct" starts with one M/N at every site, the smallest that fits the budget, and trains once for as many epochs as
MiMi's trainings together. Nothing is chosen on the test split.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from mimi_edge.budgets import budget_from_units
from mimi_edge.sites import Neurons, uniform_neurons
from mimi_edge.training.config import TrainingConfig
from mimi_edge.training.prepared_run import Prepared, prepare
from mimi_edge.training.runs import TrainingReport, run_training

PROBE, DIRECT, MIMI = METHODS = ("linear probe", "direct", "MiMi")
PROBE_RATES = (2e-3, 1e-2, 5e-2)


def main() -> None:
    """Trains, and prints one table."""
    options = _options()
    results: list[dict[str, Any]] = []
    for data in options.data:
        for seed in range(options.seeds):
            for method, report in _trained(data, seed, options):
                results.append(_result(data, seed, method, report))
                sys.stderr.write(json.dumps(results[-1]) + "\n")
    if options.json:
        sys.stdout.write(json.dumps(results, indent=1) + "\n")
    else:
        _print_table(results, options.data)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="+", default=["builtin:digits", "builtin:fashion"])
    parser.add_argument("--budget-mb", type=float, default=0.5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=TrainingConfig.epochs, help="of each training of MiMi")
    parser.add_argument("--weights", default=TrainingConfig.weights, help="of the built-in backbone; or random")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def _trained(data: str, seed: int, options: argparse.Namespace) -> Iterator[tuple[str, TrainingReport]]:
    config = TrainingConfig(
        budget=budget_from_units(options.budget_mb, None),
        data=data,
        weights=options.weights,
        seed=seed,
        epochs=options.epochs,
    )
    prepared = prepare(config)
    once = replace(config, epochs=options.epochs * prepared.schedule.trainings)
    sites = prepared.backbone.sites
    if PROBE in options.methods:
        none = dict.fromkeys((site.name for site in sites), 0)
        tried = [_run(replace(once, learning_rate=rate), none) for rate in PROBE_RATES]
        yield PROBE, max(tried, key=lambda report: report.accuracy["val"].accuracy)
    if DIRECT in options.methods:
        yield DIRECT, _run(once, uniform_neurons(sites, _largest_that_fits(prepared)))
    if MIMI in options.methods:
        yield MIMI, _run(config, None)


def _run(config: TrainingConfig, start: Neurons | None) -> TrainingReport:
    with tempfile.TemporaryDirectory() as folder:
        return run_training(config, Path(folder) / "run", start=start)


def _largest_that_fits(prepared: Prepared) -> float:
    """The smallest M/N, to a thousandth, that meets the budget at every site alike."""
    low, high = 1.0, 1024.0
    while high - low > 1e-3:
        middle = (low + high) / 2
        cost = prepared.costs.cost(uniform_neurons(prepared.backbone.sites, middle))
        low, high = (low, middle) if cost.within(prepared.config.budget) else (middle, high)
    return high


def _result(data: str, seed: int, method: str, report: TrainingReport) -> dict[str, Any]:
    return {
        "data": data,
        "seed": seed,
        "method": method,
        "size_bytes": report.cost.size_bytes,
        "val": round(report.accuracy["val"].accuracy, 4),
        "test": round(report.accuracy["test"].accuracy, 4),
        "seconds": round(report.seconds, 1),
    }


def _print_table(results: list[dict[str, Any]], datasets: list[str]) -> None:
    print("| data | method | test accuracy, mean of seeds | each seed | task file, bytes |")
    print("|---|---|---|---|---|")
    for data in datasets:
        for method in METHODS:
            rows = [row for row in results if (row["data"], row["method"]) == (data, method)]
            if rows:
                tests = [row["test"] for row in rows]
                each = ", ".join(f"{value:.4f}" for value in tests)
                sizes = ", ".join(sorted({f"{row['size_bytes']:,}" for row in rows}))
                print(f"| {data} | {method} | {statistics.mean(tests):.4f} | {each} | {sizes} |")


if __name__ == "__main__":
    main()
