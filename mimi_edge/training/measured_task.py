"""The task that a run has come to, and how good its stored weights are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from mimi_edge.confusion import Confusion, confusion
from mimi_edge.recalls import ClassRecalls, class_recalls
from mimi_edge.tasks.task import SplitAccuracy, Task
from mimi_edge.training.edited_model import EditedModel
from mimi_edge.training.loop import answers, evaluation_batch, share_right
from mimi_edge.training.open_run import Run
from mimi_edge.training.prepared_run import measured_splits
from mimi_edge.training.run_pictures import SPLIT


@dataclass(frozen=True)
class Measured:
    """A task with its accuracy, the same class by class for each split, and what test images are taken for."""

    task: Task
    per_class: Mapping[str, ClassRecalls]
    confusion: Confusion


def measured_task(run: Run, model: EditedModel) -> Measured:
    """The task with the accuracy of its stored weights, in fp32, as every other runtime will compute them."""
    header, batch = run.prepared.costs.header, evaluation_batch(run.prepared.config)
    task = Task(header, model.tensors(header.store, header.head_store))
    model.load_tensors(task.tensors)
    answered = {split: answers(model, run.images[split], batch) for split in measured_splits(run.prepared.config)}
    accuracy = {
        split: SplitAccuracy(share_right(given, run.images[split]), len(given)) for split, given in answered.items()
    }
    pairs = {split: (given.cpu().numpy(), run.images[split].labels.cpu().numpy()) for split, given in answered.items()}
    recalls = {
        split: class_recalls(given, labels, header.classes, run.copies.seen_in("train").get(split, 0))
        for split, (given, labels) in pairs.items()
    }
    measured = replace(task, header=replace(header, accuracy=accuracy))
    return Measured(measured, recalls, confusion(*pairs[SPLIT], header.classes))
