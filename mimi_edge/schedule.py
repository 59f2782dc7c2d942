"""How many rounds, and how far down each goes.

A round is a training followed by a pruning; one more training comes at the end, so K prunings mean K + 1 trainings
and nothing is ever pruned after the last training. Each pruning takes the share rho of what the adapters cost:
K = max(0, ceil(ln(sigma_target / sigma_0) / -ln(1 - rho))), where sigma is the compression (arXiv 2311.03873, Eq. 2,
whose sign slipped). The last pruning goes to exactly the budget.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from mimi_edge.budgets import Budget, Cost
from mimi_edge.errors import ConfigError

MOST_ROUNDS = 1000


@dataclass(frozen=True)
class Schedule:
    """When to prune, and how far.

    Attributes:
        limits: the budget of each pruning, first to last; the last one is the budget itself.
        last_passes: how many times as long as the others the last training is.
    """

    limits: tuple[Budget, ...]
    last_passes: int = 1

    @property
    def trainings(self) -> int:
        """K + 1."""
        return len(self.limits) + 1

    def epochs(self, of_last: int, before_prunings: int | None = None, passes: int | None = None) -> tuple[int, ...]:
        """Of each training.

        Args:
            of_last: of the last training, where it is as long as the others.
            before_prunings: of each of the others; None is as many.
            passes: of all together, of which the last training has what the others leave; None for as many as come.

        Raises:
            ConfigError: they leave it nothing.
        """
        earlier = of_last if before_prunings is None else before_prunings
        before = (earlier,) * len(self.limits)
        if passes is None:
            return (*before, of_last + earlier * (self.last_passes - 1))
        if passes <= sum(before):
            raise ConfigError(
                f"--passes {passes} leave nothing for the last of {self.trainings} trainings: those before prunings "
                f"take {sum(before)}. Give at least {sum(before) + 1}, or "
                + (f"fewer --epochs (--pruning-epochs) than {earlier}." if earlier > 1 else "a larger budget.")
            )
        return (*before, passes - sum(before))

    @property
    def in_one_shot(self) -> Schedule:
        """A single pruning that goes to the budget, with as many epochs in total: all later ones follow it."""
        return Schedule(self.limits[-1:], max(1, len(self.limits)))

    def as_long_as(self, other: Schedule) -> Schedule:
        """The same prunings, with a last training as long as those of another schedule that this one lacks."""
        return Schedule(self.limits, self.last_passes + max(0, other.trainings - self.trainings))


def prunings(start: float, target: float, rho: float) -> int:
    """K: how often the share rho must be taken from `start` to come down to `target`."""
    if target >= start:
        return 0
    exact = math.log(start / target) / -math.log1p(-rho)
    # A hair above a whole number is rounding, not another round.
    return math.ceil(exact - 1e-9)


def schedule(budget: Budget, start: Cost, least: Cost, cheapest: Cost, rho: float) -> Schedule:
    """Plans the rounds from large adapters down to a budget.

    Args:
        budget: to end with; must be feasible.
        start: cost with the adapters that training starts with.
        least: cost without any adapter.
        cheapest: cost with one neuron, at the site where it costs least.
        rho: share of the adapters' cost that a pruning takes, 0 < rho < 1.

    Raises:
        ConfigError: rho is out of range, or so small that the rounds would not end.
    """
    if not 0 < rho < 1:
        raise ConfigError(f"--rho must lie between 0 and 1, got {rho}.")
    axes = (
        (budget.size_bytes, start.size_bytes, least.size_bytes, cheapest.size_bytes),
        (budget.flops, start.flops, least.flops, cheapest.flops),
    )
    rounds = max(
        prunings(begin - floor, max(limit - floor, one - floor), rho)
        for limit, begin, floor, one in axes
        if limit is not None
    )
    if rounds == 0 and not start.within(budget):
        rounds = 1
    if rounds > MOST_ROUNDS:
        raise ConfigError(
            f"--rho {rho} would take {rounds:,} prunings; expected at most {MOST_ROUNDS}. Give a larger one."
        )

    def limit_after(done: int, limit: int | None, begin: int, floor: int) -> int | None:
        if limit is None or done == rounds:
            return limit
        return max(limit, floor + math.floor((begin - floor) * (1 - rho) ** done))

    return Schedule(
        tuple(
            Budget(*(limit_after(done, limit, begin, floor) for limit, begin, floor, _ in axes))
            for done in range(1, rounds + 1)
        )
    )
