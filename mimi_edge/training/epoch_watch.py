"""What happens as epochs end: they are logged, and shortened where there is no time for all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from mimi_edge.budgets import Cost
from mimi_edge.events import Listener, Note
from mimi_edge.training.config import TrainingConfig
from mimi_edge.training.epoch_log import EpochLog
from mimi_edge.training.loop import Progress
from mimi_edge.training.time_limit import MINUTE, TimeLimit, left_out_in_words


class EpochWatch:
    """Of a run that is under way.

    Args:
        config: of the run.
        planned: epochs of each training.
        progress: of the run, which it adds to.
        log: takes down each epoch.
        elapsed_seconds: says how long the run has taken.
        listener: hears when time is not enough.
    """

    def __init__(
        self,
        config: TrainingConfig,
        planned: tuple[int, ...],
        progress: Progress,
        log: EpochLog,
        elapsed_seconds: Callable[[], float],
        listener: Listener,
    ) -> None:
        self._minutes, self._planned, self._progress, self._log = config.max_minutes, planned, progress, log
        self._elapsed, self._listener = elapsed_seconds, listener
        self._limit = None
        if config.max_minutes is not None:
            self._limit = TimeLimit(config.max_minutes * MINUTE, planned, not config.budget.is_open)
        self._epoch_began: float | None = None

    def round_begins(self) -> None:
        """Notes the time; of an epoch that an earlier sitting began, nobody knows what it takes."""
        self._epoch_began = self._elapsed() if self._progress.place.step == 0 else None

    def is_time_up(self) -> bool:
        """Whether the training must end with the step that was just taken."""
        return self._limit is not None and self._limit.is_up(self._progress.place.round, self._elapsed())

    def epoch_ended(self, learning_rate: float, neurons: int | None, cost: Cost) -> None:
        """Adds to the last entry of the history, logs it, and looks at the time.

        Args:
            learning_rate: of the last step.
            neurons: at all sites together; None for a method that has none.
            cost: of the task.
        """
        history, now = self._progress.history, self._elapsed()
        history[-1] |= {
            "step": _steps_before(history, self._progress.loss.steps) + self._progress.loss.steps,
            "learning_rate": learning_rate,
            "size_bytes": cost.size_bytes,
        }
        if neurons is not None:
            history[-1]["neurons"] = neurons
        self._progress.epoch_seconds.append(now)
        self._log.add(self._progress)
        self._look_at_the_time(now)

    def _look_at_the_time(self, now: float) -> None:
        if self._limit is None:
            return
        taken = None if self._epoch_began is None else now - self._epoch_began
        place, known = self._progress.place, self._progress.epochs
        had = tuple(known or self._planned)[: place.round]
        epochs = (*had, *self._limit.epochs(place, now, taken)[place.round :])
        if not known and epochs != self._planned:
            self._listener(Note(left_out_in_words(self._minutes or 0, epochs)))
        self._progress.epochs = list(epochs) if epochs != self._planned else []
        self._epoch_began = now


def _steps_before(history: Sequence[Mapping[str, float]], steps: int) -> int:
    """Of all epochs before the last; earlier releases did not write them down, and had whole epochs only."""
    if len(history) == 1:
        return 0
    return int(history[-2].get("step", (len(history) - 1) * steps))
