"""Numbers with their units, as data sheets write them: `68 GB/s`, `1.28 TFLOPS`, `15 W`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from mimi_edge.texts import excerpt

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
class Kind:
    """One kind of quantity.

    Attributes:
        example: of how it is written.
        scales: what a number is multiplied with to be in the base unit, by the unit's name.
    """

    example: str
    scales: Mapping[str, float]


_PREFIXES = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
_BINARY = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40}

SIZE = Kind("8 GB", {f"{prefix}B": scale for prefix, scale in (_PREFIXES | _BINARY).items()})
BANDWIDTH = Kind("68 GB/s", {f"{unit}/s": scale for unit, scale in SIZE.scales.items()})
FLOATING = Kind("1.28 TFLOPS", {f"{prefix}FLOPS": _PREFIXES[prefix] for prefix in "MGTP"})
INTEGER = Kind("20 TOPS", {f"{prefix}OPS": _PREFIXES[prefix] for prefix in "MGTP"})
POWER = Kind("15 W", {"W": 1.0, "mW": 1e-3, "kW": 1e3})
TIME = Kind("2 us", {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9})


class Quantity(float):
    """A figure of a document, in its base unit; each class reads one kind."""

    kind: ClassVar[Kind]

    @classmethod
    def from_document(cls, entry: object) -> Self:
        """Reads it with its unit.

        Raises:
            ValueError: as of `parse_quantity`.
        """
        return cls(parse_quantity(entry, cls.kind))


class Size(Quantity):
    """Bytes."""

    kind = SIZE


class Bandwidth(Quantity):
    """Bytes per second."""

    kind = BANDWIDTH


class FloatingSpeed(Quantity):
    """Operations per second on floating-point numbers."""

    kind = FLOATING


class IntegerSpeed(Quantity):
    """Operations per second on integers."""

    kind = INTEGER


class Power(Quantity):
    """Watts."""

    kind = POWER


class Time(Quantity):
    """Seconds."""

    kind = TIME


_QUANTITY = re.compile(r"\s*([+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)\s*([^\s\d.].*?)?\s*")


def parse_quantity(text: object, kind: Kind) -> float:
    """A quantity in its base unit: bytes, bytes/s, operations/s, W or s.

    Raises:
        ValueError: it has no unit or a wrong one, is not positive, or is no quantity at all; the message says which.
    """
    expected = f"expected something like {kind.example!r}"
    if isinstance(text, bool) or not isinstance(text, str | int | float):
        raise ValueError(f"no quantity; {expected}")
    match = _QUANTITY.fullmatch(str(text))
    if match is None:
        raise ValueError(f"no quantity; {expected}, got {excerpt(text)}")
    number, unit = float(match[1]), match[2]
    if unit is None:
        raise ValueError(f"no unit; {expected}, got {excerpt(text)}")
    if unit not in kind.scales:
        raise ValueError(
            f"the unit is {excerpt(unit)}; expected one of {', '.join(kind.scales)}, as in {kind.example!r}"
        )
    value = number * kind.scales[unit]
    if not 0 < value < float("inf"):
        raise ValueError(f"not positive; {expected}, got {excerpt(text)}")
    return value


def in_words(value: float, kind: Kind, digits: int = 4) -> str:
    """A quantity with the largest decimal unit that leaves a number of at least 1."""
    units = [(scale, unit) for unit, scale in kind.scales.items() if "i" not in unit and unit.isascii()]
    fitting = [entry for entry in units if value >= entry[0]]
    scale, unit = max(fitting) if fitting else min(units)
    return f"{value / scale:.{digits}g} {unit}"
