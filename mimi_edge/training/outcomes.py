"""What a run came to, as its progress tells it: neurons by round, what would have come next, epochs, accuracies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mimi_edge.budgets import Cost
from mimi_edge.selection import Neuron
from mimi_edge.sites import Neurons
from mimi_edge.training.config import TrainingConfig
from mimi_edge.training.loop import Progress
from mimi_edge.training.prepared_run import Prepared
from mimi_edge.training.targets import Outcome

Prunings = Sequence[Mapping[str, object]]
"""One entry for each: how many neurons each site kept, and the best that did not stay."""


def outcome(config: TrainingConfig, progress: Progress) -> Outcome | None:
    """What came of the target accuracy, where there was one."""
    target = config.target_accuracy
    return None if target is None else Outcome(target, tuple(progress.stored))


def neurons_by_round(prepared: Prepared, prunings: Prunings) -> tuple[Neurons, ...]:
    """At every site, before the first pruning and after each."""
    return (dict(prepared.start), *(dict(entry["neurons"]) for entry in prunings))  # type: ignore[call-overload]


def next_neuron(prepared: Prepared, prunings: Prunings, neurons: Neurons) -> tuple[str, Cost] | None:
    """The site of the best neuron that no longer fitted, and what the task would cost with it."""
    following = prunings[-1]["next"] if prunings else None
    if not isinstance(following, dict):
        return None
    site = Neuron(**following).site
    return site, prepared.costs.with_one_more(neurons, site)


def validation(progress: Progress) -> tuple[float, ...]:
    """Validation accuracy of the last epoch of each training."""
    last = {entry["round"]: entry["val_accuracy"] for entry in progress.history if "val_accuracy" in entry}
    return tuple(last[number] for number in sorted(last))


def epochs_in_time(progress: Progress) -> tuple[int, ...]:
    """That each training had, where there was no time for all of them."""
    if not progress.epochs:
        return ()
    trained = [entry["round"] for entry in progress.history]
    return tuple(trained.count(number) for number in range(len(progress.epochs)))
