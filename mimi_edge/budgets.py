"""What a task may cost, what it does cost, and whether that can be met at all."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from mimi_edge.errors import BudgetInfeasibleError, ConfigError
from mimi_edge.files import MEGABYTE
from mimi_edge.sites import Neurons, Site, adapter_flops

if TYPE_CHECKING:
    from mimi_edge.tasks.task import TaskHeader

GIGA = 1000**3


@dataclass(frozen=True)
class Budget:
    """The most that a task may cost; None where it does not matter.

    Attributes:
        size_bytes: of the task file.
        flops: of the whole forward pass of one image: backbone, adapters and head.
    """

    size_bytes: int | None = None
    flops: int | None = None

    def __post_init__(self) -> None:
        if self.size_bytes is None and self.flops is None:
            raise ConfigError("No budget given. Give --budget-mb, --budget-gflops or both.")
        if any(limit is not None and limit <= 0 for limit in (self.size_bytes, self.flops)):
            raise ConfigError("A budget must be larger than zero.")


def budget_from_units(megabytes: float | None, gflops: float | None) -> Budget:
    """A budget from MB (1000^2 bytes) and GFLOPs, rounded down to whole bytes and operations.

    Raises:
        ConfigError: neither is given, or one is not a positive finite number.
    """
    for value in (megabytes, gflops):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise ConfigError(f"A budget must be a positive number, got {value}.")
    return Budget(
        None if megabytes is None else math.floor(round(megabytes * MEGABYTE, 6)),
        None if gflops is None else math.floor(round(gflops * GIGA, 6)),
    )


@dataclass(frozen=True)
class Cost:
    """What a task costs, in the units of `Budget`."""

    size_bytes: int
    flops: int

    def within(self, budget: Budget) -> bool:
        """Whether it fits."""
        fits_size = budget.size_bytes is None or self.size_bytes <= budget.size_bytes
        return fits_size and (budget.flops is None or self.flops <= budget.flops)


@dataclass(frozen=True)
class CostModel:
    """Says exactly what a task with given neurons will cost, before it exists.

    Attributes:
        header: of the task file.
        sites: all sites of the backbone, in order.
        backbone_flops: of the bare backbone, for one image.
    """

    header: TaskHeader
    sites: Sequence[Site]
    backbone_flops: int

    def cost(self, neurons: Neurons) -> Cost:
        """The size of the file, to the byte, and the operations of the forward pass."""
        head_flops = 2 * self.header.backbone.features * len(self.header.classes)
        return Cost(
            size_bytes=self._size_bytes(neurons),
            flops=self.backbone_flops + head_flops + adapter_flops(self.sites, neurons),
        )

    @cached_property
    def _size_bytes(self) -> Callable[[Neurons], int]:
        from mimi_edge.tasks.sizes import sizing  # here, so that the command line's options load no numpy

        return sizing(self.header, {site.name: site.width for site in self.sites})

    def with_one_more(self, neurons: Neurons, site: str) -> Cost:
        """The cost with one more neuron at one site."""
        return self.cost({**neurons, site: neurons.get(site, 0) + 1})


def require_feasible(budget: Budget, least: Cost) -> None:
    """Refuses a budget that not even a task without adapters meets.

    Raises:
        BudgetInfeasibleError: names the smallest budget that would do.
    """
    faults = []
    if budget.size_bytes is not None and least.size_bytes > budget.size_bytes:
        smallest = math.ceil(least.size_bytes / 10) / (MEGABYTE / 10)
        faults.append(
            f"the task file takes {least.size_bytes:,} bytes without any adapter (head, classes, header), the budget "
            f"is {budget.size_bytes:,}. Smallest that works: --budget-mb {smallest:.12g}"
        )
    if budget.flops is not None and least.flops > budget.flops:
        smallest = math.ceil(least.flops / 1000) / (GIGA / 1000)
        faults.append(
            f"backbone and head alone take {least.flops / GIGA:.4g} GFLOPs, the budget is {budget.flops / GIGA:.4g}. "
            f"Smallest that works: --budget-gflops {smallest:.12g}"
        )
    if faults:
        raise BudgetInfeasibleError("The budget cannot be met: " + "; ".join(faults) + ". Nothing was trained.")
