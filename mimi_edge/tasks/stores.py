"""How weights are kept in a task file: fp32, fp16, or int8 with one fp32 scale for each neuron or class."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mimi_edge.choices import Store as Store  # noqa: PLC0414  (others take it from here)
from mimi_edge.errors import ArtifactError

Array = NDArray[np.generic]
Bits = NDArray[np.uint8]
Floats = NDArray[np.float32]

SCALE = ".scale"
"""Ending of the name of the tensor that holds an int8 tensor's scales."""
INT8_LARGEST = 127


def encode_matrix(name: str, weight: Floats, scaled_axis: int, store: Store) -> dict[str, Array]:
    """The tensors that keep one matrix.

    Args:
        name: of the matrix, such as `head.weight`.
        weight: [rows, columns].
        scaled_axis: the axis that has one scale for each index, where the store is int8.
        store: the format to keep it in.

    Raises:
        ArtifactError: a weight is not finite, or too large for fp16.
    """
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
    return weight if scale is None else weight * np.expand_dims(scale.astype(np.float32), 1 - scaled_axis)


def _finite(name: str, values: Array) -> Array:
    if not np.isfinite(values).all():
        raise ArtifactError(
            f"{name} holds values that {values.dtype} cannot keep (infinite or not a number). "
            "Train again with a lower --lr, or keep the weights as --store fp32."
        )
    return values
