"""What `--max-minutes` leaves of a run's epochs: it ends in time, and meets its budget all the same.

All trainings that are left are shortened alike, as far as the last epoch foretells what the others take. Where there is
not even one for each, those before the last are left out: the run goes straight to the final pruning, and the last
training has the rest. The last training's share of the time is never spent on those before it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from mimi_edge.training.batches import Place

MINUTE = 60.0


@dataclass(frozen=True)
class TimeLimit:
    """How long a run may take.

    Attributes:
        seconds: in all sittings together.
        planned: epochs of each training, if there were time.
        must_prune: whether there is a budget, which must be met; else the run may end anywhere.
    """

    seconds: float
    planned: tuple[int, ...]
    must_prune: bool = True

    def is_up(self, training: int, elapsed_seconds: float) -> bool:
        """Whether a training must end here, and all that is to come before the last be left out.

        Args:
            training: its number, from 0.
            elapsed_seconds: of the run.
        """
        is_last = training + 1 == len(self.planned) or not self.must_prune
        share = 0.0 if is_last else self.planned[-1] / sum(self.planned)
        return elapsed_seconds >= self.seconds * (1 - share)

    def epochs(self, place: Place, elapsed_seconds: float, epoch_seconds: float | None) -> tuple[int, ...]:
        """Of each training, at the end of an epoch; those that were planned wherever there is time for them.

        Args:
            place: the epoch that comes next.
            elapsed_seconds: of the run.
            epoch_seconds: what an epoch takes; None where nobody knows yet.
        """
        done, before, after = place.epoch, self.planned[: place.round], self.planned[place.round + 1 :]
        if self.is_up(place.round, elapsed_seconds):
            return (*before, done, *self._without_rounds(after, after[-1] if after else 0))
        if epoch_seconds is None:
            return self.planned
        most = math.floor((self.seconds - elapsed_seconds) / max(epoch_seconds, 1e-9))
        left = (self.planned[place.round] - done, *after)
        if most >= sum(left):
            return self.planned
        if most < len(after):
            return (*before, done, *self._without_rounds(after, max(1, most)))
        now, *later = _shares(left, most)
        return (*before, done + now, *later)

    def _without_rounds(self, after: tuple[int, ...], last: int) -> tuple[int, ...]:
        """Nothing but the last training is left of those that were to come; without a budget, nothing at all."""
        return (*(0 for _ in after[:-1]), last if self.must_prune else 0) if after else ()


def _shares(wanted: tuple[int, ...], most: int) -> list[int]:
    """Shortens all alike; the first may get none, each of the others at least one, the last what is left."""
    share, shortened = most / sum(wanted), list[int]()
    for number, epochs in enumerate(wanted):
        to_come = len(wanted) - number - 1
        room = most - sum(shortened) - to_come
        fair = math.floor(epochs * share) if to_come else epochs
        shortened.append(min(room, max(fair, 1 if number else 0)))
    return shortened


def before_next(epochs: tuple[int, ...], training: int) -> int:
    """The training that is followed by the next one with epochs: those between are left out, and their prunings too.

    Args:
        epochs: of each training.
        training: that has ended; where none of the others has any, the last one of all is the answer.
    """
    following = (number for number in range(training + 1, len(epochs)) if epochs[number])
    return next(following, len(epochs)) - 1


def left_out_in_words(minutes: float, epochs: tuple[int, ...]) -> str:
    """What a run without enough time does instead."""
    listed = ", ".join(map(str, epochs))
    return (
        f"{minutes:g} minutes are not enough for all epochs: the trainings get {listed}, more if they go faster. "
        "The budget is met all the same."
    )
