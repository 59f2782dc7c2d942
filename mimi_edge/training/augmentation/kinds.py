"""What `--augment` may ask for: names with `+` between them, some with a strength behind a colon."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mimi_edge.texts import excerpt

NONE = "none"


@dataclass(frozen=True)
class Strength:
    """What the number behind a kind may be.

    Attributes:
        default: where no number is given.
        low: the least.
        high: the most.
    """

    default: float
    low: float
    high: float


CROP, ORIGINAL_CROP = "crop", "original-crop"
KINDS: dict[str, Strength | None] = {
    ORIGINAL_CROP: Strength(0.08, 0.01, 1),
    CROP: Strength(0.08, 0.01, 1),
    "flip": None,
    "shift": None,
    "randaugment": Strength(9, 0, 10),
    "jitter": Strength(0.4, 0, 1),
    "erasing": Strength(0.25, 0, 1),
}
"""In the order in which they are done, whatever the order in which they are asked for."""
SHOWN = (NONE, "flip", "shift", "flip+shift", *(name for name, strength in KINDS.items() if strength is not None))
"""What a shell completes to."""


@dataclass(frozen=True)
class Kind:
    """One kind of variation.

    Attributes:
        name: of `KINDS`.
        strength: its number; 0 where it has none.
    """

    name: str
    strength: float = 0


def original_crop_in(text: str) -> Kind | None:
    """The kind that decodes each image anew for every step, if such a text asks for it."""
    return next((kind for kind in augment_kinds(text) if kind.name == ORIGINAL_CROP), None)


def augment_kinds(text: str) -> tuple[Kind, ...]:
    """The kinds that a text without faults asks for, in the order in which they are done."""
    asked = {} if text == NONE else dict(map(_parts, text.split("+")))
    return tuple(Kind(name, _strength(name, asked[name])) for name in KINDS if name in asked)


def augment_faults(text: str) -> Iterator[str]:
    """What is wrong with what was asked for."""
    if text == NONE:
        return
    parts = [_parts(one) for one in text.split("+")]
    names = [name for name, _ in parts]
    if unknown := [name for name in names if name not in KINDS]:
        listed = ", ".join(KINDS)
        yield f"--augment must be {NONE}, or some of {listed} with + between them, got {excerpt('+'.join(unknown))}"
    if len(set(names)) < len(names):
        yield f"--augment takes each kind once, got {excerpt(text)}"
    if {CROP, ORIGINAL_CROP} <= set(names):
        yield f"--augment crops once: {ORIGINAL_CROP} the originals, {CROP} what was made of them; got {excerpt(text)}"
    for name, number in parts:
        if name in KINDS and number:
            yield from _strength_faults(name, number)


def _parts(one: str) -> tuple[str, str]:
    name, _, number = one.partition(":")
    return name, number


def _strength(name: str, number: str) -> float:
    strength = KINDS[name]
    return 0 if strength is None else float(number or strength.default)


def _strength_faults(name: str, number: str) -> Iterator[str]:
    strength = KINDS[name]
    if strength is None:
        yield f"--augment {name} takes no number, got {excerpt(number)}"
        return
    try:
        is_good = strength.low <= float(number) <= strength.high
    except ValueError:
        is_good = False
    if not is_good:
        yield f"--augment {name} takes a number from {strength.low:g} to {strength.high:g}, got {excerpt(number)}"
