"""When a target accuracy ends a run, and which of its tasks is the result.

After each training the task is measured on the validation split as it would be stored. It holds when it reaches the
target, or, as long as none has, when it is better than all before it: adapters that are trained once more may still get
there. The first that does not hold ends the run, and the one before it is the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """What came of a target accuracy.

    Attributes:
        target: a share of the validation images.
        accuracy: on them, after each training, of the weights as they would be stored.
    """

    target: float
    accuracy: tuple[float, ...]

    @property
    def kept(self) -> int:
        """Number of the training, from 0, whose task is the result."""
        return len(self.accuracy) - 1 if holds(self.accuracy, self.target) else len(self.accuracy) - 2

    @property
    def reached(self) -> bool:
        """Whether the result reaches the target."""
        return self.accuracy[self.kept] >= self.target

    @property
    def sentence(self) -> str:
        """Why the run stopped."""
        target, kept, best = f"{self.target:.2%}", self.kept, f"{self.accuracy[self.kept]:.2%}"
        if not self.reached:
            return (
                f"{target} was not reached on the validation split: the best, {best} after training {kept + 1}, is the "
                "result; more --epochs may reach it"
            )
        if kept + 1 < len(self.accuracy):
            return (
                f"the next smaller task has {self.accuracy[-1]:.2%} on the validation split, less than {target}; the "
                f"result is that of training {kept + 1}, with {best}"
            )
        return f"nothing smaller was asked for; {best} on the validation split, at least {target} was asked for"


def holds(accuracy: Sequence[float], target: float) -> bool:
    """Whether the last training was good enough to go on from.

    Args:
        accuracy: after each training until now, at least one.
        target: to reach.
    """
    *before, last = accuracy
    best = max(before, default=-1.0)
    return last >= target or (best < target and last > best)
