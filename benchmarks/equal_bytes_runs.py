"""Adds what `mimi-edge compare` has trained to docs/equal-bytes.csv: a line for each finished run that it lacks.

`python benchmarks/equal_bytes_runs.py COMPARISON ...`; then `equal_bytes.py --pages` makes tables of them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from equal_bytes import FILE
from growing_csv import GrowingCsv

from mimi_edge.builtin import BACKBONE_NAME
from mimi_edge.choices import Store
from mimi_edge.files import MEGABYTE
from mimi_edge.images.sources.names import bare_name
from mimi_edge.profiles.comparison.trials import ANY_SIZE, RUNS
from mimi_edge.training.config import LOG_FILE, TrainingConfig, read_config
from mimi_edge.training.reports import TrainingReport, finished_report

KEYS = ("backbone", "data", "budget_mb", "passes", "method", "rate", "warm_up", "seed")
VALUES = ("precision", "size_bytes", "validation", "test")
BACKBONES = {BACKBONE_NAME: "built-in", "vit_small_patch14_dinov2": "DINOv2-S"}
IMAGES_OF_FASHION = 3_000
WARM_UP = "ten steps"
"""Of this release; the file has lines of another."""


def main() -> None:
    """Adds lines, and says how many."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("comparisons", nargs="+", type=Path, help="folders of mimi-edge compare")
    parser.add_argument("--file", type=Path, default=FILE)
    parser.add_argument(
        "--budget-mb", type=float, default=0.03, help="in whose table methods are that have no size to choose"
    )
    options = parser.parse_args()
    lines, added = GrowingCsv(options.file, KEYS, VALUES), 0
    for comparison in options.comparisons:
        for folder, config, report in finished_runs(comparison):
            key = key_of(folder, config, options.budget_mb)
            if not lines.has(key):
                lines.add(key, values_of(report))
                added += 1
    print(f"{added} lines added to {options.file}")


def finished_runs(comparison: Path) -> Iterator[tuple[Path, TrainingConfig, TrainingReport]]:
    """The runs of a comparison that are done, and learned from no image for validation."""
    for folder in sorted((comparison / RUNS).iterdir()):
        config, _ = read_config(folder)
        report = finished_report(folder, config.name)
        if report is not None and not config.train_on_val:
            yield folder, config, report


def key_of(folder: Path, config: TrainingConfig, budget_mb: float) -> tuple[str, ...]:
    """Which line a run is, as the file says it."""
    size = config.budget.size_bytes
    of_budget = budget_mb if size in (None, ANY_SIZE) else size / MEGABYTE
    return (
        BACKBONES.get(config.backbone, config.backbone) + (f", {config.image_size} px" if config.image_size else ""),
        _data(config),
        f"{of_budget:g}",
        str(len((folder / LOG_FILE).read_text("utf-8").splitlines()) - 1),
        config.method + ("" if config.store is Store.FP16 else f"-{config.store.value}"),
        f"{config.learning_rate:g}",
        WARM_UP,
        str(config.seed),
    )


def _data(config: TrainingConfig) -> str:
    if config.data != "builtin:fashion":
        return bare_name(config.data)
    return f"Fashion-MNIST, {config.train_images or IMAGES_OF_FASHION:,} images"


def values_of(report: TrainingReport) -> tuple[str, ...]:
    """What a run came to."""
    precisions = dict.fromkeys(one.split()[0] for one in report.computed_in)
    accuracies = (f"{report.accuracy[split].accuracy:.4f}" for split in ("val", "test"))
    return ("+".join(precisions), str(report.cost.size_bytes), *accuracies)


if __name__ == "__main__":
    main()
