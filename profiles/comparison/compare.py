"""A whole comparison: trains what is missing, merges and measures one task a line, and writes what came out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimi_edge.errors import MimiEdgeError
from mimi_edge.events import Listener, Note, silent
from mimi_edge.files import write_json, write_whole
from mimi_edge.profiles.comparison.chart import draw_pareto
from mimi_edge.profiles.comparison.config import ComparisonConfig
from mimi_edge.profiles.comparison.results import Line, comparison_result, comparison_table, lines_of
from mimi_edge.profiles.comparison.trials import (
    Train,
    Trained,
    Trainings,
    comparison_folder,
    planned_trainings,
    train_all,
)
from mimi_edge.profiles.rendering.comma_separated import written
from mimi_edge.profiles.rendering.markdown import table_text

if TYPE_CHECKING:
    from mimi_edge.profiles.reports import Report

PACKAGE = "package"
JSON_FILE = "comparison.json"
CSV_FILE = "comparison.csv"
MARKDOWN_FILE = "comparison.md"
CHART_FILES = ("comparison.png", "comparison.svg")

Measure = Callable[[Sequence[Trained]], "Report | None"]


@dataclass(frozen=True)
class Comparison:
    """What came out.

    Attributes:
        folder: that holds it.
        config: what was compared.
        lines: of the table.
        document: for programs.
    """

    folder: Path
    config: ComparisonConfig
    lines: tuple[Line, ...]
    document: dict[str, Any]


def compare(
    config: ComparisonConfig,
    folder: Path,
    train: Train,
    measure: Measure,
    listener: Listener = silent,
    *,
    trainings: Trainings = planned_trainings,
) -> Comparison:
    """Compares methods in a folder; the same call again goes on where it was interrupted.

    Args:
        config: what to compare.
        folder: made if it is not there.
        train: as of `train_all`.
        measure: of what was trained; gives None where nothing is measured.
        listener: hears how far it is.
        trainings: as of `train_all`.

    Raises:
        ConfigError: the folder is of another comparison, or another process works there.
        StoppedError: it was asked to stop.
    """
    with comparison_folder(config, folder):
        trained = train_all(config, folder, train, trainings, listener)
        measured = measure(trained)
        lines = tuple(lines_of(trained, measured))
        comparison = Comparison(folder, config, lines, comparison_result(config, lines, measured))
        _write(comparison, listener)
        return comparison


def measured_with_profile(folder: Path, config: ComparisonConfig, listener: Listener = silent) -> Measure:
    """Merges the first seed of each line into a package, and measures all graphs and the bare backbone in turns."""

    def measure(trained: Sequence[Trained]) -> Report | None:
        runs = [one.reports[0].task_file.parent for one in trained if one.reports]
        if not config.rounds or not runs:
            return None
        from mimi_edge.export.from_runs import package_of_runs
        from mimi_edge.profiles.from_python import profile

        package = folder / PACKAGE
        package_of_runs(runs, package, data=None, weights=None, backbone_graph=None, threads=None, listener=listener)
        return profile(package, rounds=config.rounds, listener=listener)

    return measure


def _write(comparison: Comparison, listener: Listener) -> None:
    folder, lines = comparison.folder, comparison.lines
    table = comparison_table(comparison.config, lines)
    write_json(folder / JSON_FILE, comparison.document)
    write_whole(folder / MARKDOWN_FILE, table_text(table).encode())
    write_whole(folder / CSV_FILE, _csv(comparison.document).encode())
    try:
        for name in CHART_FILES:
            draw_pareto(lines, folder / name, f"{comparison.config.data} on {comparison.config.backbone}")
    except MimiEdgeError as error:
        listener(Note(f"No picture of the comparison: {error}"))


def _csv(document: dict[str, Any]) -> str:
    """A row a line; what has a figure for each seed has a column for each."""
    rows = [_flat(line) for line in document["lines"]]
    return written(list(dict.fromkeys(name for row in rows for name in row)), rows)


def _flat(line: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in line.items():
        if name == "latency_ratio":
            ends = value or (None, None, None)
            flat |= dict(zip(("latency_ratio", "latency_ratio_low", "latency_ratio_high"), ends, strict=True))
        elif isinstance(value, dict):
            flat |= {f"{name}_{key}": inner for key, inner in value.items()}
        elif isinstance(value, list | tuple):
            flat |= {f"{name}_{seed}": inner for seed, inner in enumerate(value)}
        else:
            flat[name] = value
    return flat
