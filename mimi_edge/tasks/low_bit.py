"""Weights in 1, 2 or 4 bits: which levels stand for them, and how they are packed into bytes.

A level is an odd whole number, -1 and 1 in one bit, -15 to 15 in four, times the scale of its vector: a neuron or row.
Evenly spaced levels with the scale that loses least are within a hundredth of the best ones for normally distributed
weights (Max, 1960), so there is no table of them. Scales are fp16.

In a file a vector is one row of bytes: its levels, the first in the highest bits, then its scale. So a matrix is one
tensor there, and names no second one, which would take more bytes than a small matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

A = TypeVar("A")
"""Arrays of numpy, or tensors of torch: what rounds in training and what is stored is one rule."""

SCALE_BYTES = 2
FITS = 2
"""Times that levels and scale are fitted to each other, which each step of training pays for: with normally distributed
weights a further one takes off a thousandth of what is lost."""
_FIRST_SCALE = {1: 1.0, 2: 0.624, 4: 0.21}
"""What suits normally distributed weights, as a share of their mean magnitude."""


def levels(weight: A, axis: int, bits: int, half: Callable[[A], A]) -> tuple[A, A]:
    """The levels that stand for a matrix, and the scales that lose least.

    Args:
        weight: [R, C] in fp32, of numpy or torch.
        axis: the one that has a scale for each index.
        bits: 1, 2 or 4.
        half: rounds to fp16 and back to fp32.

    Returns:
        Levels [R, C], odd whole numbers in fp32, and scales [R, 1] or [1, C]; weight is about levels * scales.
    """
    matrix: Any = weight
    along = 1 - axis
    scale = abs(matrix).mean(along, keepdims=True) * _FIRST_SCALE[bits]
    for _ in range(FITS if bits > 1 else 0):
        found = _nearest(matrix, scale, bits)
        scale = (matrix * found).sum(along, keepdims=True) / (found * found).sum(along, keepdims=True)
    scale = half(scale)
    return _nearest(matrix, scale, bits), scale


def _nearest(matrix: Any, scale: Any, bits: int) -> Any:
    step = 2 * (scale + (scale == 0))  # where all weights are 0, any level times 0 is right
    largest = largest_level(bits)
    return (2 * (matrix / step // 1) + 1).clip(-largest, largest)


def largest_level(bits: int) -> int:
    """Of the odd numbers that so many bits can hold."""
    return int(2**bits - 1)


def row_bytes(length: int, bits: int) -> int:
    """What a vector of so many weights takes in a file, with its scale."""
    return -(-length * bits // 8) + SCALE_BYTES


def pack(codes: NDArray[np.int8], scales: NDArray[np.float16], bits: int) -> NDArray[np.uint8]:
    """Rows of bytes as they lie in a file.

    Args:
        codes: levels [n, L], a vector in a row.
        scales: [n].
        bits: of a level.
    """
    numbers = ((codes.astype(np.int16) + largest_level(bits)) // 2).astype(np.uint8)
    spread = (numbers[:, :, None] >> np.arange(bits - 1, -1, -1, dtype=np.uint8)) & 1
    packed = np.packbits(spread.reshape(len(codes), -1), axis=1)
    return np.concatenate([packed, scales.astype("<f2").view(np.uint8).reshape(-1, SCALE_BYTES)], axis=1)


def unpack(rows: NDArray[np.uint8], length: int, bits: int) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    """Levels [n, length] and scales [n] of rows of bytes [n, `row_bytes(length, bits)`]."""
    packed, tail = rows[:, :-SCALE_BYTES], np.ascontiguousarray(rows[:, -SCALE_BYTES:])
    spread = np.unpackbits(packed, axis=1, count=length * bits).reshape(len(rows), length, bits)
    numbers = spread @ (1 << np.arange(bits - 1, -1, -1, dtype=np.int16))
    return (2 * numbers - largest_level(bits)).astype(np.int8), tail.view("<f2").reshape(-1).astype(np.float16)
