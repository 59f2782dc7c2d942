"""Axes of a chart: from values to places, and where the ticks are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

MOST_TICKS = 5
MANTISSAS = (1, 2, 5)


@dataclass(frozen=True)
class Axis:
    """One axis.

    Attributes:
        low: value at its start.
        high: value at its end, above `low`.
        start: place of `low`, in units of the drawing.
        end: place of `high`.
        ticks: values that are marked.
        logarithmic: equal steps are equal ratios; `low` is above 0 then.
    """

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """Where a value is."""
        low, high, value = (math.log(it) if self.logarithmic else it for it in (self.low, self.high, value))
        return round(self.start + (value - low) / (high - low) * (self.end - self.start), 2)


def linear(values: Sequence[float], start: float, end: float) -> Axis:
    """An axis with round ticks that holds all values."""
    low, high = min(values), max(values)
    if low == high:
        low, high = low - (abs(low) or 1) * 0.05, high + (abs(high) or 1) * 0.05
    step = _round_step((high - low) / MOST_TICKS)
    first, last = math.floor(low / step), math.ceil(high / step)
    ticks = tuple(round(index * step, 12) for index in range(first, last + 1))
    return Axis(ticks[0], ticks[-1], start, end, ticks)


def logarithmic(values: Sequence[float], start: float, end: float) -> Axis:
    """An axis of powers of ten, with 2 and 5 between them where there are few; values must be above 0."""
    room = 1.15 if max(values) > 1.5 * min(values) else 4.0
    low, high = min(values) / room, max(values) * room
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for mantissas in ((1,), MANTISSAS):
        ticks = tuple(
            m * 10.0**exponent for exponent in exponents for m in mantissas if low <= m * 10.0**exponent <= high
        )
        if len(ticks) >= 3:
            break
    return Axis(low, high, start, end, ticks, logarithmic=True)


def _round_step(least: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is no less."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * mantissa for mantissa in (*MANTISSAS, 10) if power * mantissa >= least * (1 - 1e-9))
