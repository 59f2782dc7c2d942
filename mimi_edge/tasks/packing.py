"""What lies in a task's file where that is not what the task has: weights of few bits are packed.

How long a vector is, and which way it runs, follows from the name and the bytes for nearly every matrix. Those of which
it does not are listed in the description, with their shapes.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mimi_edge.documents import FaultyError
from mimi_edge.methods.description import MASK
from mimi_edge.tasks.low_bit import SCALE_BYTES, pack, row_bytes, unpack
from mimi_edge.tasks.stores import SCALE, Array, Bits
from mimi_edge.tasks.task import Shape, TaskHeader, neuron_axis, scaled_axis, tensor_dtype
from mimi_edge.texts import excerpt

LARGEST_NUMBERS = 2_000_000_000
"""Weights of a matrix; a file with more would be refused for its size."""


def filed(header: TaskHeader, shapes: Mapping[str, Shape]) -> dict[str, tuple[np.dtype[np.generic], Shape]]:
    """Type and shape of each tensor of a file, by those of the task, scales included."""
    low = {name for name, shape in shapes.items() if _bits(header, name, shape)}
    entries = {
        name: (tensor_dtype(name, shape, header.store_of(name)), shape)
        for name, shape in shapes.items()
        if name not in low and name.removesuffix(SCALE) not in low
    }
    return entries | {name: (np.dtype(np.uint8), _filed_rows(header, name, shapes[name])) for name in low}


def listed_shapes(header: TaskHeader, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """The shapes of those matrices that do not follow from their bytes, by name, as a description lists them."""
    return {
        name: shape
        for name, shape in shapes.items()
        if (bits := _bits(header, name, shape)) and shape != _plain_shape(name, _filed_rows(header, name, shape), bits)
    }


def packed(header: TaskHeader, tensors: Mapping[str, Array]) -> dict[str, Array]:
    """The tensors as they lie in the file."""
    low = {name for name, values in tensors.items() if _bits(header, name, values.shape)}
    kept = {name: values for name, values in tensors.items() if name not in low and name.removesuffix(SCALE) not in low}
    return kept | {name: _packed_matrix(header, name, tensors) for name in low}


def _packed_matrix(header: TaskHeader, name: str, tensors: Mapping[str, Array]) -> Bits:
    codes, scales = tensors[name].astype(np.int8), tensors[name + SCALE].astype(np.float16)
    turned = codes.T if _axis(header, name, codes.shape) else codes
    return pack(turned, scales.reshape(-1), _bits(header, name, codes.shape))


def unpacked(
    header: TaskHeader, tensors: Mapping[str, Array], listed: Mapping[str, tuple[int, int]], *, outline: bool = False
) -> dict[str, Array]:
    """The tensors of the task, by those of its file.

    Args:
        header: of the task.
        tensors: of the file.
        listed: shapes that the description lists.
        outline: only types and shapes matter; nothing is computed, and no memory taken.

    Raises:
        FaultyError: a matrix cannot be what the description says.
    """
    found: dict[str, Array] = {}
    for name, values in tensors.items():
        bits = _bits(header, name, values.shape)
        if not bits:
            found[name] = values
            continue
        if values.dtype != np.uint8:
            raise FaultyError(f"tensor {name}: expected packed bits, got {values.dtype}")
        shape = listed.get(name) or _plain_shape(name, values.shape, bits)
        if not 0 < shape[0] * shape[1] < LARGEST_NUMBERS or values.shape != _filed_rows(header, name, shape):
            raise FaultyError(f"tensor {name}: {excerpt(values.shape)} bytes are no matrix {excerpt(list(shape))}")
        found |= _matrix(header, name, values, shape, outline=outline)
    return found


def _matrix(header: TaskHeader, name: str, rows: Array, shape: Shape, *, outline: bool) -> dict[str, Array]:
    axis = _axis(header, name, shape)
    scales = (shape[0], 1) if axis == 0 else (1, shape[1])
    if outline:
        return {
            name: np.broadcast_to(np.zeros((), np.int8), shape),
            name + SCALE: np.broadcast_to(np.zeros((), np.float16), scales),
        }
    codes, found = unpack(rows.astype(np.uint8), shape[1 - axis], _bits(header, name, shape))
    return {name: np.ascontiguousarray(codes.T if axis else codes), name + SCALE: found.reshape(scales)}


def _bits(header: TaskHeader, name: str, shape: Shape) -> int:
    """Of a weight of a packed matrix; 0 for everything else."""
    return 0 if len(shape) != 2 or name.endswith((SCALE, MASK)) else header.store_of(name).low_bits


def _axis(header: TaskHeader, name: str, shape: Shape) -> int:
    return scaled_axis(name, shape, header.store_of(name))


def _filed_rows(header: TaskHeader, name: str, shape: Shape) -> tuple[int, int]:
    """How many vectors a matrix has, and the bytes of each in a file."""
    axis = _axis(header, name, shape)
    return shape[axis], row_bytes(shape[1 - axis], header.store_of(name).low_bits)


def _plain_shape(name: str, rows: Shape, bits: int) -> tuple[int, int]:
    """What a matrix would be whose vectors are its neurons and fill their bytes."""
    count, in_bytes = rows
    length = max(0, in_bytes - SCALE_BYTES) * 8 // bits
    return (length, count) if neuron_axis(name) else (count, length)
