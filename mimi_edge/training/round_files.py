"""The task after each training of a run, kept in its folder, so that another point than the last can be taken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimi_edge.training.config import ROUNDS_FOLDER, TASK_SUFFIX

if TYPE_CHECKING:
    from mimi_edge.budgets import Cost
    from mimi_edge.tasks.task import Task


@dataclass(frozen=True)
class RoundPoint:
    """One point of a run's curve.

    Attributes:
        round: number of the training, from 1, as people are told.
        file: of the task, in the run folder.
        neurons: at all sites together.
        size_bytes: of the file.
        flops: operations of a forward pass.
        accuracy: of the stored weights, by split, 0..1.
    """

    round: int
    file: str
    neurons: int
    size_bytes: int
    flops: int
    accuracy: Mapping[str, float]


def round_file(task: str, number: int) -> str:
    """Where the task after a training is, in the run folder; trainings are counted from 1."""
    return f"{ROUNDS_FOLDER}/{task}-{number}{TASK_SUFFIX}"


def round_files(folder: Path, task: str) -> list[Path]:
    """The files of all trainings of a run that are there, or that somebody was killed while writing."""
    found, ending = set[Path](), TASK_SUFFIX
    for path in (folder / ROUNDS_FOLDER).glob(f"*{escape(task)}-*{ending}*"):
        number = path.name.removeprefix(".").removeprefix(f"{task}-").partition(ending)[0]
        if number.isdigit():
            found.add(folder / round_file(task, int(number)))
    return sorted(found)


def write_round(task: Task, cost: Cost, number: int, folder: Path) -> dict[str, Any]:
    """Writes the task after a training, with the accuracy of its stored weights, and says what there is to know of it.

    Raises:
        OSError: it cannot be written.
    """
    from mimi_edge.tasks.files import write_task

    file = round_file(task.header.name, number)
    size = write_task(task, folder / file)
    accuracy = {split: value.accuracy for split, value in task.header.accuracy.items()}
    return asdict(RoundPoint(number, file, sum(task.neurons.values()), size, cost.flops, accuracy))
