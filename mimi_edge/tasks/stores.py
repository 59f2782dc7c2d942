"""How weights are kept in a task file: fp32, fp16, int8 with one fp32 scale for each neuron or class, or fewer bits."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mimi_edge.choices import Store as Store  # noqa: PLC0414  (others take it from here)
from mimi_edge.errors import ArtifactError
from mimi_edge.tasks.low_bit import levels

Array = NDArray[np.generic]
Bits = NDArray[np.uint8]
Floats = NDArray[np.float32]

SCALE = ".scale"
"""Ending of the name of the tensor that holds an int8 tensor's scales, a vector, or those of fewer bits, a matrix that
broadcasts."""
INT8_LARGEST = 127


def encode_matrix(name: str, weight: Floats, scaled_axis: int, store: Store) -> dict[str, Array]:
    """The tensors that keep one matrix.

    Args:
        name: of the matrix, such as `head.weight`.
        weight: [rows, columns].
        scaled_axis: the axis that has one scale for each index, where the store is int8 or less.
        store: the format to keep it in.

    Raises:
        ArtifactError: a weight is not finite, or too large for fp16.
    """
    if store.low_bits:
        _finite(name, weight)
        found, scales = levels(weight, scaled_axis, store.low_bits, _through_half)
        return {name: found.astype(np.int8), name + SCALE: _finite(name + SCALE, scales.astype(np.float16))}
    if store is not Store.INT8:
        return {name: _finite(name, weight.astype(store.weight_dtype))}
    _finite(name, weight)
    largest = np.abs(weight).max(axis=1 - scaled_axis)
    scale = (largest / INT8_LARGEST).astype(np.float32)
    scale[scale == 0] = 1  # nothing but zeros, or numbers too small for a step between them
    quantised = np.rint(weight / np.expand_dims(scale, 1 - scaled_axis))
    return {
        name: np.clip(quantised, -INT8_LARGEST, INT8_LARGEST).astype(np.int8),
        name + SCALE: _finite(name + SCALE, scale),
    }


def encode_vector(name: str, vector: Floats, store: Store) -> dict[str, Array]:
    """The tensor that keeps one vector.

    Raises:
        ArtifactError: a value is not finite, or too large for fp16.
    """
    return {name: _finite(name, vector.astype(store.bias_dtype))}


def decode_matrix(name: str, tensors: Mapping[str, Array], scaled_axis: int) -> Floats:
    """The matrix, as fp32, that `encode_matrix` kept."""
    weight = tensors[name].astype(np.float32)
    scale = tensors.get(name + SCALE)
    if scale is None:
        return weight
    scales: Floats = scale.astype(np.float32)
    decoded: Floats = weight * (scales if scales.ndim == 2 else np.expand_dims(scales, 1 - scaled_axis))
    return decoded


def _through_half(values: Floats) -> Floats:
    with np.errstate(over="ignore"):
        return values.astype(np.float16).astype(np.float32)


def _finite(name: str, values: Array) -> Array:
    if not np.isfinite(values).all():
        raise ArtifactError(
            f"{name} holds values that {values.dtype} cannot keep (infinite or not a number). "
            "Train again with a lower --lr, or keep the weights as --store fp32."
        )
    return values
