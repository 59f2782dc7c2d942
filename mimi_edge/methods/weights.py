"""Weights as expressions: what a parameter becomes, in tensors that a task stores and tensors that the backbone has.

One small algebra is evaluated by whoever has its operations: numpy here, torch in training, ONNX when a task is merged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

Shape = tuple[int, ...]
T = TypeVar("T")


@dataclass(frozen=True)
class Stored:
    """A tensor of the task file."""

    name: str


@dataclass(frozen=True)
class Frozen:
    """A parameter of the backbone, by the name it has in torch."""

    name: str


@dataclass(frozen=True)
class Constant:
    """Numbers that the method itself fixes; a flat tuple in the order of the shape."""

    values: tuple[float, ...]
    shape: Shape


@dataclass(frozen=True)
class Operation:
    """An operation on weights.

    Attributes:
        kind: `add`, `mul` (both broadcast), `dot` (matrix product), `kron`, `concat` (along axis 0), `reshape`,
            `transpose` (of a matrix), `part` (some rows), or `scatter` (numbers at places, zeros between them).
        operands: what it works on.
        sizes: the shape of `reshape`; begin and end of `part` and of `scatter`.
    """

    kind: str
    operands: tuple[Weight, ...]
    sizes: Shape = ()


Weight = Stored | Frozen | Constant | Operation
Leaf = Stored | Frozen | Constant
Arithmetic = Mapping[str, Callable[..., Any]]
"""An operation of each kind on values of one library; `reshape`, `part` and `scatter` also take the sizes."""


def add(left: Weight, right: Weight) -> Operation:
    """left + right."""
    return Operation("add", (left, right))


def mul(left: Weight, right: Weight) -> Operation:
    """left * right, element by element."""
    return Operation("mul", (left, right))


def dot(left: Weight, right: Weight) -> Operation:
    """left @ right, of matrices."""
    return Operation("dot", (left, right))


def kron(left: Weight, right: Weight) -> Operation:
    """The Kronecker product of two matrices."""
    return Operation("kron", (left, right))


def concat(*parts: Weight) -> Operation:
    """One below the other."""
    return Operation("concat", parts)


def reshape(weight: Weight, *shape: int) -> Operation:
    """The same numbers in another shape."""
    return Operation("reshape", (weight,), shape)


def transpose(weight: Weight) -> Operation:
    """A matrix, turned."""
    return Operation("transpose", (weight,))


def part(weight: Weight, begin: int, end: int) -> Operation:
    """Rows begin to end, the end not included."""
    return Operation("part", (weight,), (begin, end))


def piece(weight: Weight, number: int, rows: int) -> Operation:
    """One of several pieces of so many rows that lie one below the other."""
    return part(weight, number * rows, (number + 1) * rows)


def scatter(numbers: Weight, mask: Stored, begin: int, end: int) -> Operation:
    """Places begin to end, the end not included, of a long row of places: a vector, mostly of zeros.

    Args:
        numbers: of all places that hold one, in their order, in any shape.
        mask: a tensor of packed bits that says which places those are.
        begin: the first place.
        end: the place behind the last.
    """
    return Operation("scatter", (numbers, mask), (begin, end))


def scaled(weight: Weight, scale: float) -> Weight:
    """A weight times a number; itself where the number is 1."""
    return weight if scale == 1 else mul(weight, Constant((scale,), (1,)))


def evaluate(weight: Weight, leaf: Callable[[Leaf], T], arithmetic: Arithmetic) -> T:
    """The value of an expression.

    Args:
        weight: the expression.
        leaf: gives the value of a stored, frozen or constant tensor.
        arithmetic: of the library that the values belong to.
    """
    if not isinstance(weight, Operation):
        return leaf(weight)
    values = [evaluate(operand, leaf, arithmetic) for operand in weight.operands]
    result: T = arithmetic[weight.kind](*values, *([weight.sizes] if weight.sizes else []))
    return result


def shape_of(weight: Weight, leaf: Callable[[Leaf], Shape]) -> Shape:
    """The shape of an expression, given those of its leaves."""
    return evaluate(weight, lambda one: one.shape if isinstance(one, Constant) else leaf(one), _SHAPES)


def leaves(weight: Weight | None) -> Iterator[Leaf]:
    """All tensors that an expression is made of."""
    if isinstance(weight, Operation):
        for operand in weight.operands:
            yield from leaves(operand)
    elif weight is not None:
        yield weight


def _broadcast(left: Shape, right: Shape) -> Shape:
    length = max(len(left), len(right))
    ours, theirs = (1,) * (length - len(left)) + left, (1,) * (length - len(right)) + right
    if any(a != b and 1 not in (a, b) for a, b in zip(ours, theirs, strict=True)):
        raise ValueError(f"shapes {left} and {right} do not go together")
    return tuple(max(a, b) if a and b else 0 for a, b in zip(ours, theirs, strict=True))


def _dot(left: Shape, right: Shape) -> Shape:
    if len(left) != 2 or len(right) != 2 or left[1] != right[0]:
        raise ValueError(f"no product of shapes {left} and {right}")
    return left[0], right[1]


def _reshape(shape: Shape, sizes: Shape) -> Shape:
    if math.prod(shape) != math.prod(sizes):
        raise ValueError(f"{shape} has not as many numbers as {sizes}")
    return sizes


_SHAPES: Arithmetic = {
    "add": _broadcast,
    "mul": _broadcast,
    "dot": _dot,
    "kron": lambda left, right: (left[0] * right[0], left[1] * right[1]),
    "concat": lambda *parts: (sum(one[0] for one in parts), *parts[0][1:]),
    "reshape": _reshape,
    "transpose": lambda shape: shape[::-1],
    "part": lambda shape, sizes: (sizes[1] - sizes[0], *shape[1:]),
    "scatter": lambda _, __, sizes: (sizes[1] - sizes[0],),
}
