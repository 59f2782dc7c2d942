"""Finds the first layer of an engine that goes wrong, by bisection over marked outputs.

Marking a value as an output changes the engine: what TensorRT would have fused around it is computed apart. So few
values are marked at a time, and what was seen is reported as it was seen, also where it does not add up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from mimi_edge.errors import ConfigError
from mimi_edge.export.graphs import FEATURES, LOGITS
from mimi_edge.tasks.stores import Floats

if TYPE_CHECKING:
    import onnx_ir as ir

MARKS = 3
"""Values that are marked at once: each build then leaves a quarter of the range."""
ADAPTED = ".adapted"
"""Ending of the name of a site's value once its adapter was added."""


class Marked(Protocol):
    """A model that also gives the values that were marked."""

    def run_all(self, images: Floats) -> Mapping[str, Floats]:
        """Every output in fp32, by name."""
        ...


Build = Callable[[Sequence[str]], Marked]
"""Builds a model with these values marked."""


@dataclass(frozen=True)
class Seen:
    """What was measured at one value.

    Attributes:
        name: of the value.
        difference: largest one, as a share of the reference's largest number there; infinite where the engine gives
            something that is no number.
        largest: the reference's largest number there.
        is_finite: whether the engine gives only numbers.
    """

    name: str
    difference: float
    largest: float
    is_finite: bool


@dataclass(frozen=True)
class Bisection:
    """Where an engine goes wrong.

    Attributes:
        tolerance: above which a difference is wrong.
        seen: everything that was measured, in the order of the graph.
        first_bad: name of the first value that was seen wrong; None where none was.
        last_good: name of the last value before it that was seen right; None where it is the first of all.
        between: values between the two, which were not measured: none unless the search was cut short.
        builds: engines that were built.
    """

    tolerance: float
    seen: tuple[Seen, ...]
    first_bad: str | None
    last_good: str | None
    between: int
    builds: int

    @property
    def is_monotone(self) -> bool:
        """Whether everything after the first wrong value was seen wrong too; else errors fade, or marks move them."""
        bad = [not one.difference <= self.tolerance for one in self.seen]
        return bad == sorted(bad)

    @property
    def worst(self) -> Seen | None:
        """The value with the largest difference that was seen."""
        return max(self.seen, key=lambda one: one.difference, default=None)

    def sentence(self) -> str:
        """What to tell people."""
        if self.first_bad is None:
            return (
                f"No layer is off by more than {self.tolerance:g} once outputs are marked, so the mismatch comes from "
                f"how the layers are fused ({self.builds} engines were built to look)."
            )
        found = next(one for one in self.seen if one.name == self.first_bad)
        how = (
            f"by {found.difference:.3g} of its largest value" if found.is_finite else "with values that are no numbers"
        )
        after = f"after {self.last_good} was right" if self.last_good else "the first that was looked at"
        odd = "" if self.is_monotone else " Some layers after it are right again, so look at the others too."
        return f"The first wrong layer is {self.first_bad}, off {how}, {after}.{odd}"

    def document(self) -> dict[str, object]:
        """The same in JSON's types."""
        return {
            "first_bad": self.first_bad,
            "last_good": self.last_good,
            "monotone": self.is_monotone,
            "builds": self.builds,
            "seen": {one.name: one.difference if one.is_finite else "not finite" for one in self.seen},
        }


def bisect(
    names: Sequence[str],
    engine: Build,
    reference: Build,
    images: Floats,
    tolerance: float,
    *,
    marks: int = MARKS,
) -> Bisection:
    """Finds the first value that an engine computes wrong, in about log(n) / log(marks + 1) builds.

    Args:
        names: of the values to look at, in the order in which they are computed.
        engine: builds the engine with values marked.
        reference: the same for what is right.
        images: normalised, [B, 3, H, W].
        tolerance: of the largest difference, as a share of the reference's largest number.
        marks: values marked in one build.

    Raises:
        ConfigError: there is nothing to look at.
        MimiEdgeError: a build failed.
    """
    if not names or marks < 1:
        raise ConfigError(f"Nothing to look at: {len(names)} values, {marks} marked at once. Name values of the graph.")
    seen: dict[int, Seen] = {}
    builds = 0
    # What lies before `good` was right or not looked at; `bad` was wrong, or is the end.
    good, bad = -1, len(names)
    while positions := _spread(good, bad, marks):
        chosen = [names[position] for position in positions]
        got, expected = engine(chosen).run_all(images), reference(chosen).run_all(images)
        builds += 1
        seen |= {at: compare(name, got[name], expected[name]) for at, name in zip(positions, chosen, strict=True)}
        bad = next((at for at in positions if not seen[at].difference <= tolerance), bad)
        good = max((at for at in positions if at < bad), default=good)
    return Bisection(
        tolerance=tolerance,
        seen=tuple(seen[at] for at in sorted(seen)),
        first_bad=names[bad] if bad < len(names) else None,
        last_good=names[good] if good >= 0 else None,
        between=bad - good - 1,
        builds=builds,
    )


def compare(name: str, got: Floats, expected: Floats) -> Seen:
    """How far a value is from what is right."""
    largest = float(np.abs(expected).max())
    is_finite = bool(np.isfinite(got).all())
    if not is_finite or got.shape != expected.shape:
        return Seen(name, float("inf"), largest, is_finite)
    difference = float(np.abs(got - expected).max())
    return Seen(name, difference / largest if largest else difference, largest, is_finite)


def candidates(engine: ir.Model, reference: ir.Model, sites: Sequence[str]) -> tuple[str, ...]:
    """Values worth looking at, in the engine graph's order: sites, with their adapters and without, features, logits.

    Values that only one of the graphs has, because a pass folded them away, are left out.

    Args:
        engine: the graph that the engine is built from.
        reference: the graph that is right.
        sites: names of all sites.
    """
    wanted = {FEATURES, LOGITS, *sites, *(site + ADAPTED for site in sites)}
    there = wanted & {value.name for node in reference.graph for value in node.outputs}
    return tuple(value.name for node in engine.graph for value in node.outputs if value.name in there)


def mark_outputs(model: ir.Model, names: Sequence[str]) -> None:
    """Makes values outputs of a graph, in place; those that are already stay.

    Raises:
        ConfigError: the graph has no such value.
    """
    produced = {value.name: value for node in model.graph for value in node.outputs}
    if missing := [name for name in names if name not in produced]:
        raise ConfigError(f"The graph computes no {', '.join(missing)}. Take names from `candidates`.")
    there = {value.name for value in model.graph.outputs}
    model.graph.outputs.extend(produced[name] for name in names if name not in there)


def _spread(good: int, bad: int, marks: int) -> list[int]:
    """Up to `marks` positions between the two, evenly."""
    between = range(good + 1, bad)
    if len(between) <= marks:
        return list(between)
    step = (len(between) + 1) / (marks + 1)
    return [good + round(step * turn) for turn in range(1, marks + 1)]
