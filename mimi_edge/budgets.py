"""What a task may cost, what it does cost, and whether that can be met at all."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from mimi_edge.errors import BudgetInfeasibleError, ConfigError
from mimi_edge.files import MEGABYTE

if TYPE_CHECKING:
    from mimi_edge.methods.description import Description, Sizes
    from mimi_edge.methods.network import Network
    from mimi_edge.methods.weights import Shape
    from mimi_edge.tasks.task import TaskHeader

GIGA = 1000**3
NO_BUDGET = "No budget given. Give --budget-mb, --budget-gflops or both."


@dataclass(frozen=True)
class Budget:
    """The most that a task may cost; None where it does not matter, which both are where something else ends a run.

    Attributes:
        size_bytes: of the task file.
        flops: of the whole forward pass of one image: backbone, adapters and head.
    """

    size_bytes: int | None = None
    flops: int | None = None

    def __post_init__(self) -> None:
        if any(limit is not None and limit <= 0 for limit in (self.size_bytes, self.flops)):
            raise ConfigError("A budget must be larger than zero.")

    @property
    def is_open(self) -> bool:
        """Whether everything fits."""
        return self.size_bytes is None and self.flops is None


def budget_from_units(megabytes: float | None, gflops: float | None) -> Budget:
    """A budget from MB (1000^2 bytes) and GFLOPs, rounded down to whole bytes and operations.

    Raises:
        ConfigError: neither is given, or one is not a positive finite number.
    """
    for option, value in {"--budget-mb": megabytes, "--budget-gflops": gflops}.items():
        if value is not None and not (math.isfinite(value) and value > 0):
            raise ConfigError(f"{option} must be a positive number, got {value}.")
    if megabytes is None and gflops is None:
        raise ConfigError(NO_BUDGET)
    return Budget(
        None if megabytes is None else whole_units(megabytes, MEGABYTE),
        None if gflops is None else whole_units(gflops, GIGA),
    )


def whole_units(value: float, unit: int) -> int:
    """How many bytes or operations a number of units is, rounded down."""
    return math.floor(round(value * unit, 6))


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
    """Says exactly what a task of a method will cost, before it exists.

    Attributes:
        header: of the task file.
        network: that the method adapts.
        description: what the method does to it.
        backbone_flops: of the bare backbone, for one image.
    """

    header: TaskHeader
    network: Network
    description: Description
    backbone_flops: int

    def cost(self, sizes: Sizes) -> Cost:
        """The size of the file, to the byte, and the operations of the forward pass, with axes of these sizes."""
        from mimi_edge.methods.costs import flops_of  # here, so that the command line's options load nothing

        described = self.description.resized(sizes)
        head_flops = 2 * self.header.backbone.features * len(self.header.classes)
        return Cost(
            size_bytes=self._size_bytes(described.shapes),
            flops=self.backbone_flops + head_flops + flops_of(described, self.network),
        )

    @cached_property
    def _size_bytes(self) -> Callable[[Mapping[str, Shape]], int]:
        from mimi_edge.tasks.sizes import sizing  # here, so that the command line's options load no numpy

        return sizing(self.header)

    def with_one_more(self, sizes: Sizes, axis: str) -> Cost:
        """The cost with one more index on one axis, such as a neuron at a site."""
        return self.cost({**sizes, axis: sizes.get(axis, 0) + 1})


def largest_that_fits(least: int, most: int, fits: Callable[[int], bool]) -> int:
    """The largest whole number from `least` to `most` that fits, by bisection; `least` is not asked about.

    Args:
        least: the answer where no larger one fits.
        most: the largest to ask about.
        fits: once a number does not fit, no larger one does.
    """
    while least < most:
        middle = (least + most + 1) // 2
        if fits(middle):
            least = middle
        else:
            most = middle - 1
    return least


def require_feasible(budget: Budget, least: Cost, fixed: str | None = None) -> None:
    """Refuses a budget that the smallest task of a method does not meet.

    Args:
        budget: to meet.
        least: cost of the smallest task: without any adapter, where a method is pruned.
        fixed: name of a method that is not pruned away.

    Raises:
        BudgetInfeasibleError: names the smallest budget that would do.
    """
    faults = []
    what = "without any adapter" if fixed is None else f"with {fixed}"
    forward = "backbone and head alone" if fixed is None else f"backbone, head and {fixed}"
    if budget.size_bytes is not None and least.size_bytes > budget.size_bytes:
        smallest = math.ceil(least.size_bytes / 10) / (MEGABYTE / 10)
        faults.append(
            f"the task file takes {least.size_bytes:,} bytes {what} (head, classes, header), the budget "
            f"is {budget.size_bytes:,}. Smallest that works: --budget-mb {smallest:.12g}"
        )
    if budget.flops is not None and least.flops > budget.flops:
        smallest = math.ceil(least.flops / 1000) / (GIGA / 1000)
        faults.append(
            f"{forward} take {least.flops / GIGA:.4g} GFLOPs, the budget is {budget.flops / GIGA:.4g}. "
            f"Smallest that works: --budget-gflops {smallest:.12g}"
        )
    if faults:
        raise BudgetInfeasibleError("The budget cannot be met: " + "; ".join(faults) + ". Nothing was trained.")
