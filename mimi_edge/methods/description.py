"""What a method does to one network: the tensors it stores, the axes that may be shortened, and its edits."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from mimi_edge.methods.edits import Edit, stored_names
from mimi_edge.methods.weights import Shape, Weight

Sizes = Mapping[str, int]
"""How long each axis is; one that is missing or 0 is gone, with its tensors and edits."""


@dataclass(frozen=True)
class Normal:
    """First values drawn from a normal distribution around 0."""

    std: float


@dataclass(frozen=True)
class Uniform:
    """First values drawn between -bound and bound."""

    bound: float


@dataclass(frozen=True)
class Filled:
    """First values all alike."""

    value: float


@dataclass(frozen=True)
class Places:
    """Packed bits, the first place the highest of the first byte: which places of a long row hold a number.

    They are chosen once, before training begins, and never trained.

    Attributes:
        of: the tensor that has the numbers, as many as there are bits set.
        count: how many places there are.
        by: what says which weights stay: `snip`, `magnitude` or `random`.
    """

    of: str
    count: int
    by: str


MASK = ".mask"
"""Ending of the names of tensors of packed bits."""
ZEROS = Filled(0.0)
ONES = Filled(1.0)


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of a task file: a vector, a matrix, or packed bits.

    Attributes:
        name: of it.
        shape: of it.
        first: what training begins with; an expression of frozen tensors is computed.
    """

    name: str
    shape: Shape
    first: Normal | Uniform | Filled | Places | Weight

    @property
    def numbers(self) -> int:
        """How many it holds; bits are none."""
        return math.prod(self.shape) if self.trained else 0

    @property
    def trained(self) -> bool:
        """Whether it is trained; where numbers stand is not."""
        return not isinstance(self.first, Places)


@dataclass(frozen=True)
class Axis:
    """Something that has an index: taking index j away takes it from several tensors at once.

    Attributes:
        name: of the axis; an adapter's is the name of its site.
        size: how many indices there are.
        along: by tensor, the dimension.
        neutral: whether an index of zeros changes no answer, so that a shared graph may pad with them.
    """

    name: str
    size: int
    along: Mapping[str, int]
    neutral: bool = True


@dataclass(frozen=True)
class Description:
    """What a method does to a network."""

    tensors: tuple[StoredTensor, ...] = ()
    axes: tuple[Axis, ...] = ()
    edits: tuple[Edit, ...] = ()

    def __add__(self, other: Description) -> Description:
        return together((self, other))

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """By name."""
        return {tensor.name: tensor.shape for tensor in self.tensors}

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Of all axes."""
        return {axis.name: axis.size for axis in self.axes}

    @property
    def numbers(self) -> int:
        """How many numbers are stored, beside the head."""
        return sum(tensor.numbers for tensor in self.tensors)

    def resized(self, sizes: Sizes) -> Description:
        """The same with axes of these sizes; what lies along an axis of size 0 is gone."""
        along = {name: (sizes.get(axis.name, 0), dim) for axis in self.axes for name, dim in axis.along.items()}
        gone = {name for name, (size, _) in along.items() if not size}
        return Description(
            tuple(_resized(tensor, along) for tensor in self.tensors if tensor.name not in gone),
            tuple(replace(axis, size=sizes[axis.name]) for axis in self.axes if sizes.get(axis.name, 0)),
            tuple(edit for edit in self.edits if not gone & stored_names(edit)),
        )

    def sizes_in(self, shapes: Mapping[str, Shape]) -> dict[str, int]:
        """How long the axes are in tensors of these shapes."""
        found = {}
        for axis in self.axes:
            name, dim = next(iter(axis.along.items()))
            shape = shapes.get(name, ())
            found[axis.name] = shape[dim] if dim < len(shape) else 0
        return found


def together(parts: Iterable[Description]) -> Description:
    """One description of all that several describe."""
    listed: Sequence[Description] = list(parts)
    return Description(
        tuple(tensor for one in listed for tensor in one.tensors),
        tuple(axis for one in listed for axis in one.axes),
        tuple(edit for one in listed for edit in one.edits),
    )


def _resized(tensor: StoredTensor, along: Mapping[str, tuple[int, int]]) -> StoredTensor:
    if tensor.name not in along:
        return tensor
    size, dim = along[tensor.name]
    return replace(tensor, shape=(*tensor.shape[:dim], size, *tensor.shape[dim + 1 :]))
