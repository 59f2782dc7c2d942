"""What a comparison found: a line for each method and budget, and the table and documents that are made of them."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from mimi_edge.durations import duration
from mimi_edge.files import MEGABYTE
from mimi_edge.profiles.comparison.config import ComparisonConfig, comparison_document, entries_of
from mimi_edge.profiles.comparison.trials import Trained
from mimi_edge.profiles.rendering.readable import figure, megabytes, percent, ratio
from mimi_edge.profiles.rendering.table import Table
from mimi_edge.tasks.files import read_outline

if TYPE_CHECKING:
    from mimi_edge.profiles.reports import MeasuredArtefact, Report

SCHEMA = 1


@dataclass(frozen=True)
class Line:
    """One line of a comparison; what does not exist is None.

    Attributes:
        method: its name, with the store that it has for itself.
        title: as the literature has it.
        budget_bytes: that it had to meet; None where it has the size it has.
        why_not: why it could not be trained.
        size_bytes: of the task file of the first seed.
        numbers: stored in it, the head's included.
        gflops: of the whole forward pass.
        learning_rate: chosen on the validation split.
        tried: validation accuracy by learning rate, of the first seed.
        validation: accuracy on the validation split, by seed.
        test: accuracy on the test split, by seed.
        latency_ratio: of the merged graph to the bare backbone, with the ends of its interval.
        memory_bytes: that the merged graph added to its process at most.
        seconds: of training, by seed.
    """

    method: str
    title: str
    budget_bytes: int | None
    why_not: str | None = None
    size_bytes: int | None = None
    numbers: int | None = None
    gflops: float | None = None
    learning_rate: float | None = None
    tried: Mapping[str, float] | None = None
    validation: tuple[float, ...] = ()
    test: tuple[float, ...] = ()
    latency_ratio: tuple[float, float, float] | None = None
    memory_bytes: int | None = None
    seconds: tuple[float, ...] = ()

    @property
    def mean(self) -> float | None:
        """Of the accuracy on the test split."""
        return statistics.fmean(self.test) if self.test else None

    @property
    def deviation(self) -> float | None:
        """Standard deviation of one seed; None of less than two."""
        return statistics.stdev(self.test) if len(self.test) > 1 else None

    @property
    def over_budget(self) -> bool:
        """Whether its file is larger than what it was given."""
        return self.budget_bytes is not None and (self.size_bytes or 0) > self.budget_bytes


def lines_of(trained: Sequence[Trained], measured: Report | None) -> list[Line]:
    """What was trained, and what was measured of it."""
    artefacts = {} if measured is None else {one.task: one for one in measured.artefacts if one.task is not None}
    return [_line(one, artefacts.get(one.entry.name)) for one in trained]


def _line(one: Trained, artefact: MeasuredArtefact | None) -> Line:
    entry = one.entry
    budget = None if entry.budget_mb is None else round(entry.budget_mb * MEGABYTE)
    if not one.reports:
        return Line(entry.label, entry.title, budget, one.why_not)
    first = one.reports[0]
    found = () if artefact is None else artefact.measurements
    ratio = next((each.ratio.ratio for each in found if each.ratio is not None), None)
    return Line(
        method=entry.label,
        title=entry.title,
        budget_bytes=budget,
        size_bytes=first.cost.size_bytes,
        numbers=read_outline(first.task_file).numbers,
        gflops=first.cost.flops / 1e9,
        learning_rate=one.learning_rate,
        tried={f"{rate:g}": accuracy for rate, accuracy in (one.tried or {}).items()},
        validation=tuple(report.accuracy["val"].accuracy for report in one.reports if "val" in report.accuracy),
        test=tuple(report.accuracy["test"].accuracy for report in one.reports),
        latency_ratio=None if ratio is None else (ratio.value, ratio.low, ratio.high),
        memory_bytes=None if artefact is None or artefact.memory is None else artefact.memory.host_bytes,
        seconds=tuple(report.seconds for report in one.reports),
    )


def comparison_table(config: ComparisonConfig, lines: Sequence[Line]) -> Table:
    """For people."""
    columns = (
        "method",
        "budget, MB",
        "file, bytes",
        "numbers",
        "GFLOPs",
        "lr",
        "test accuracy",
        "latency / backbone",
        "memory, MB",
        "training",
    )
    return Table("Methods side by side", columns, tuple(map(_row, lines)), _note(config, lines))


def _note(config: ComparisonConfig, lines: Sequence[Line]) -> str:
    tries, seeds = len(config.learning_rates), "seed" if config.seeds == 1 else "seeds"
    best = f"the best of {tries} on the validation split with the first seed, as many for each method"
    said = [
        f"Accuracy of the stored weights: mean and standard deviation of {config.seeds} {seeds}.",
        f"Learning rate: {best if tries > 1 else 'one, the same for every method'}.",
        *(["With it, each method was trained once more, on the images for validation, too."] * config.train_on_val),
        *_passes_in_words(config),
    ]
    if any(line.latency_ratio for line in lines):
        said.append(
            "Latency of the merged graph at batch 1 and memory of its process: ONNX Runtime on the CPU, in turns."
        )
    if any(line.budget_bytes is None for line in lines):
        said.append("A method without a budget has no size to choose, and is shown at the size it has.")
    return " ".join(said)


def _passes_in_words(config: ComparisonConfig) -> Iterator[str]:
    if config.passes is not None:
        every = f"Every line takes {config.passes} passes over the images"
        yield f"{every}; what is pruned has the rest in its last training."
        return
    yield "Passes over the images are equal: what MiMi takes in several trainings, the others take in one."
    if any(one.own_store and one.method.prunes for one in entries_of(config)):
        yield "What prunes less often, as it keeps weights in fewer bits, has the rest in its last training."


def _row(line: Line) -> tuple[str, ...]:
    budget = "" if line.budget_bytes is None else f"{line.budget_bytes / MEGABYTE:g}"
    if line.why_not is not None:
        return (line.title, budget, "", "", "", "", " ".join(line.why_not.split()), "", "", "")
    accuracy = percent(line.mean)
    return (
        line.title,
        budget,
        figure(line.size_bytes),
        figure(line.numbers),
        figure(line.gflops),
        figure(line.learning_rate),
        accuracy if line.deviation is None else f"{accuracy} ± {100 * line.deviation:.2f}",
        "" if line.latency_ratio is None else ratio(*line.latency_ratio),
        megabytes(line.memory_bytes),
        duration(statistics.fmean(line.seconds)),
    )


def comparison_result(config: ComparisonConfig, lines: Sequence[Line], measured: Report | None) -> dict[str, Any]:
    """For programs: every figure of every seed, and where latency was measured."""
    from mimi_edge.profiles.report_documents import environment_document

    return {
        "schema": SCHEMA,
        "config": comparison_document(config),
        "lines": [
            asdict(line) | {"mean": line.mean, "deviation": line.deviation, "over_budget": line.over_budget}
            for line in lines
        ],
        "environment": None if measured is None else environment_document(measured.environment),
    }
