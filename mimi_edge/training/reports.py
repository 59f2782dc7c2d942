"""What a run made, as a value and as the `report.json` of its folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mimi_edge.budgets import Budget, Cost
from mimi_edge.documents import json_value, read_bytes, typed
from mimi_edge.errors import ConfigError
from mimi_edge.recalls import ClassRecalls, recalls_from_document
from mimi_edge.sites import Neurons
from mimi_edge.tasks.task import SplitAccuracy
from mimi_edge.training.config import REPORT_FILE, TASK_SUFFIX
from mimi_edge.training.round_files import RoundPoint
from mimi_edge.training.targets import Outcome

LARGEST_BYTES = 100_000_000
"""Of a run's report."""


@dataclass(frozen=True)
class TrainingReport:
    """What a run made.

    Attributes:
        task_file: where the task is.
        cost: of the task: bytes on disk, operations of a forward pass.
        budget: that it had to meet, by axis.
        next_neuron: the site of the best neuron that no longer fitted, and what the task would cost with it.
        neurons: at every site, before the first pruning and after each.
        accuracy: of the stored weights, by split.
        per_class: the same class by class; empty in reports of earlier releases.
        validation: accuracy on the validation split at the end of each training.
        frozen_blocks: transformer blocks that run before the first adapter.
        seconds: that it took, in all sittings together.
        threads: CPU threads that trained; several where it was gone on with in another number.
        computed_in: precision of the forward pass and kind of device, `bf16 on cpu`; several where it was gone on
            with in others, none in reports of earlier releases.
        target: what came of the target accuracy, where there was one.
        unwritten: what could not be written beside the task file, in words.
        rounds: the tasks that were kept after each training, in the run folder; empty in reports of earlier releases.
        epochs: of each training, where time did not allow for those that were planned.
    """

    task_file: Path
    cost: Cost
    budget: Mapping[str, int | None]
    next_neuron: tuple[str, Cost] | None
    neurons: tuple[Neurons, ...]
    accuracy: Mapping[str, SplitAccuracy]
    validation: tuple[float, ...]
    frozen_blocks: int
    seconds: float
    threads: tuple[int, ...] = ()
    computed_in: tuple[str, ...] = ()
    target: Outcome | None = None
    unwritten: tuple[str, ...] = ()
    per_class: Mapping[str, ClassRecalls] = field(default_factory=dict)
    rounds: tuple[RoundPoint, ...] = ()
    epochs: tuple[int, ...] = ()

    @property
    def stopped(self) -> str:
        """Why the run went no further."""
        why = "the budget is met" if self.target is None else self.target.sentence
        if not self.epochs:
            return why
        return f"{why}; --max-minutes left the trainings {', '.join(map(str, self.epochs))} epochs"


def report_document(report: TrainingReport) -> dict[str, Any]:
    """The report as values that JSON can hold."""
    following = None
    if report.next_neuron is not None:
        site, cost = report.next_neuron
        following = {"site": site, "size_bytes": cost.size_bytes, "flops": cost.flops}
    return {
        "task_file": str(report.task_file),
        "size_bytes": report.cost.size_bytes,
        "flops": report.cost.flops,
        "budget": dict(report.budget),
        "with_next_neuron": following,
        "neurons": [dict(neurons) for neurons in report.neurons],
        "accuracy": {name: asdict(value) for name, value in report.accuracy.items()},
        "per_class": {name: recalls.document() for name, recalls in report.per_class.items()},
        "validation": list(report.validation),
        "frozen_blocks": report.frozen_blocks,
        "seconds": round(report.seconds, 1),
        "threads": list(report.threads),
        "computed_in": list(report.computed_in),
        "stopped": report.stopped,
        "target": None if report.target is None else _target_document(report.target),
        "rounds": [asdict(point) for point in report.rounds],
        "epochs_in_time": list(report.epochs),
    }


def _target_document(target: Outcome) -> dict[str, Any]:
    return {
        "target_accuracy": target.target,
        "accuracy_as_stored": list(target.accuracy),
        "kept_training": target.kept + 1,
        "reached": target.reached,
    }


def finished_report(folder: Path, task: str) -> TrainingReport | None:
    """The report of a run that is finished; None where it is not, or where its report cannot be read.

    Args:
        folder: of the run.
        task: its name.
    """
    task_file = folder / (task + TASK_SUFFIX)
    if not task_file.is_file():
        return None
    try:
        return _report(task_file, json_value(read_bytes(folder / REPORT_FILE, LARGEST_BYTES)))
    except (ConfigError, OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError):
        return None


@dataclass(frozen=True)
class _Following:
    site: str
    size_bytes: int
    flops: int


@dataclass(frozen=True)
class _Target:
    target_accuracy: float
    accuracy_as_stored: tuple[float, ...]


@dataclass(frozen=True)
class _Entries:
    """A report as JSON has it, without what follows from the rest."""

    size_bytes: int
    flops: int
    budget: Budget
    with_next_neuron: _Following | None
    neurons: tuple[dict[str, int], ...]
    accuracy: dict[str, SplitAccuracy]
    validation: tuple[float, ...]
    frozen_blocks: int
    seconds: float
    threads: tuple[int, ...] = ()
    computed_in: tuple[str, ...] = ()
    target: _Target | None = None
    per_class: dict[str, dict[str, Any]] = field(default_factory=dict)
    rounds: tuple[RoundPoint, ...] = ()
    epochs_in_time: tuple[int, ...] = ()


def _report(task_file: Path, document: Any) -> TrainingReport:
    found = typed(document, _Entries, unknown_entries=True)
    following, target, neurons = found.with_next_neuron, found.target, found.neurons
    if not neurons or any(counts.keys() != neurons[0].keys() for counts in neurons):
        raise ValueError("the sites are not always the same")
    return TrainingReport(
        task_file=task_file,
        cost=Cost(found.size_bytes, found.flops),
        budget=asdict(found.budget),
        next_neuron=None if following is None else (following.site, Cost(following.size_bytes, following.flops)),
        neurons=neurons,
        accuracy=found.accuracy,
        validation=found.validation,
        frozen_blocks=found.frozen_blocks,
        seconds=found.seconds,
        threads=found.threads,
        computed_in=found.computed_in,
        target=None if target is None else Outcome(target.target_accuracy, target.accuracy_as_stored),
        per_class={split: recalls_from_document(value) for split, value in found.per_class.items()},
        rounds=found.rounds,
        epochs=found.epochs_in_time,
    )
