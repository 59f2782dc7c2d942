"""How weights are kept: what comes back, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimi_edge.errors import ArtifactError
from mimi_edge.tasks.stores import Floats, Store, decode_matrix, encode_matrix, encode_vector

shapes = st.tuples(st.integers(1, 9), st.integers(1, 9))


def matrix(shape: tuple[int, int], seed: int, spread: int) -> Floats:
    """Weights whose columns are of different orders of magnitude."""
    random = np.random.default_rng(seed)
    sizes = (10.0 ** random.integers(-spread, spread + 1, shape[1])).astype(np.float32)
    return random.standard_normal(shape, np.float32) * sizes


@given(shapes, st.integers(0, 999))
def test_fp32_keeps_everything(shape: tuple[int, int], seed: int) -> None:
    weight = matrix(shape, seed, 9)
    assert np.array_equal(decode_matrix("w", encode_matrix("w", weight, 1, Store.FP32), 1), weight)


@given(shapes, st.integers(0, 999))
def test_fp16_is_off_by_half_a_unit_in_the_last_place(shape: tuple[int, int], seed: int) -> None:
    weight = matrix(shape, seed, 3)
    back = decode_matrix("w", encode_matrix("w", weight, 1, Store.FP16), 1)
    assert (np.abs(back - weight) <= np.maximum(np.abs(weight) * 2.0**-11, 2.0**-25)).all()


@given(shapes, st.integers(0, 999), st.sampled_from([0, 1]))
def test_int8_is_off_by_half_a_step_of_its_own_neuron(shape: tuple[int, int], seed: int, axis: int) -> None:
    weight = matrix(shape, seed, 4) if axis == 1 else matrix(shape[::-1], seed, 4).T
    tensors = encode_matrix("w", weight, axis, Store.INT8)
    assert tensors["w"].dtype == np.int8
    assert tensors["w.scale"].dtype == np.float32
    assert tensors["w.scale"].shape == (weight.shape[axis],)
    steps = np.abs(weight).max(axis=1 - axis, keepdims=True) / 127
    assert (np.abs(decode_matrix("w", tensors, axis) - weight) <= steps * 0.5001).all()


@pytest.mark.parametrize("axis", [0, 1])
def test_int8_keeps_zeros_and_the_largest_weight(axis: int) -> None:
    weight = np.array([[0, 0, 0], [0, 3, -0.5], [0, -8, 100]], np.float32)
    back = decode_matrix("w", encode_matrix("w", weight, axis, Store.INT8), axis)
    assert np.array_equal(back == 0, weight == 0)
    np.testing.assert_allclose(back[2, 2], 100, rtol=1e-6)


@pytest.mark.parametrize("store", Store)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_a_number_is_refused(store: Store, value: float) -> None:
    weight = np.ones((2, 3), np.float32)
    weight[1, 1] = value
    with pytest.raises(ArtifactError, match=r"head\.weight holds values"):
        encode_matrix("head.weight", weight, 0, store)
    with pytest.raises(ArtifactError, match=r"head\.bias holds values"):
        encode_vector("head.bias", weight[1], store)


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_what_is_too_large_for_fp16_is_refused_and_the_way_out_named() -> None:
    with pytest.raises(ArtifactError, match="--store fp32"):
        encode_matrix("w", np.full((1, 1), 70_000, np.float32), 1, Store.FP16)
    assert encode_matrix("w", np.full((1, 1), 70_000, np.float32), 1, Store.INT8)["w"][0, 0] == 127


def test_tiny_weights_stay_finite_as_int8() -> None:
    weight = np.full((1, 2), 1e-44, np.float32)
    back = decode_matrix("w", encode_matrix("w", weight, 1, Store.INT8), 1)
    assert np.isfinite(back).all()
    assert np.abs(back).max() <= 1e-40
