"""Weights in 1, 2 and 4 bits: levels, packing, files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from method_samples import header_of, sample_task

from mimi_edge.choices import Store, own_head_store
from mimi_edge.errors import ArtifactError
from mimi_edge.tasks.files import open_task, read_outline, read_task, site_table, task_bytes, write_task
from mimi_edge.tasks.low_bit import largest_level, levels, pack, row_bytes, unpack
from mimi_edge.tasks.sizes import size_bytes
from mimi_edge.tasks.stores import SCALE, Floats, decode_matrix, encode_matrix
from mimi_edge.tasks.task import HEAD_BIAS, HEAD_WEIGHT, Task, decode_tensors, encode_tensors, tensor_shapes

LOW = [store for store in Store if store.low_bits]
shapes = st.tuples(st.integers(1, 20), st.integers(1, 20))


def through_half(values: Floats) -> Floats:
    return values.astype(np.float16).astype(np.float32)


def normal(shape: tuple[int, int], seed: int) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


@given(shapes, st.integers(0, 999), st.sampled_from([1, 2, 4]))
def test_what_is_packed_comes_back(shape: tuple[int, int], seed: int, bits: int) -> None:
    random = np.random.default_rng(seed)
    codes = (2 * random.integers(0, 2**bits, shape) - largest_level(bits)).astype(np.int8)
    scales = random.standard_normal(shape[0]).astype(np.float16)
    rows = pack(codes, scales, bits)
    assert rows.shape == (shape[0], row_bytes(shape[1], bits))
    back, found = unpack(rows, shape[1], bits)
    assert np.array_equal(back, codes)
    assert np.array_equal(found, scales)


def test_bits_lie_in_the_order_that_is_written_down() -> None:
    rows = pack(np.array([[3, -3, 1, -1, 3]], np.int8), np.array([1.0], np.float16), 2)
    assert rows.tolist() == [[0b11_00_10_01, 0b11_000000, 0x00, 0x3C]]


@given(shapes, st.integers(0, 999), st.sampled_from([1, 2, 4]), st.sampled_from([0, 1]))
def test_no_other_level_is_nearer_and_the_scale_loses_least(
    shape: tuple[int, int], seed: int, bits: int, axis: int
) -> None:
    weight = normal(shape, seed)
    found, scale = levels(weight, axis, bits, through_half)
    assert set(np.unique(found)) <= set(range(-largest_level(bits), largest_level(bits) + 1, 2))
    all_levels = np.arange(-largest_level(bits), largest_level(bits) + 1, 2)
    least = np.abs(weight[..., None] - all_levels * scale[..., None]).min(-1)
    np.testing.assert_allclose(np.abs(weight - found * scale), least, atol=1e-5)
    lost = ((weight - found * scale) ** 2).sum(1 - axis)
    for factor in (0.98, 1.02):
        assert (lost <= ((weight - found * scale * factor) ** 2).sum(1 - axis) + 1e-2 * (weight**2).sum(1 - axis)).all()


@pytest.mark.parametrize(("bits", "most"), [(1, 0.37), (2, 0.125), (4, 0.013)])
def test_normal_weights_lose_what_the_best_even_levels_lose(bits: int, most: float) -> None:
    """Max (1960) has .3634, .1188 and .01154 of the variance for 1, 2 and 4 bits."""
    weight = normal((4, 4096), 0)
    found, scale = levels(weight, 0, bits, through_half)
    assert ((weight - found * scale) ** 2).mean() < most


@pytest.mark.parametrize("store", LOW)
def test_nothing_but_zeros_comes_back_as_zeros(store: Store) -> None:
    tensors = encode_matrix("w", np.zeros((3, 8), np.float32), 0, store)
    assert not decode_matrix("w", tensors, 0).any()


@pytest.mark.parametrize("store", LOW)
@pytest.mark.parametrize("of_head", [None, Store.INT8, Store.INT1, Store.FP16])
@pytest.mark.parametrize("width", [8, 13])
def test_a_file_is_as_large_as_was_said_and_comes_back(
    store: Store, of_head: Store | None, width: int, tmp_path: Path
) -> None:
    header = replace(header_of(store=store), head_store=None if of_head is store else of_head)
    weights = {
        HEAD_WEIGHT: normal((len(header.classes), header.backbone.features), 0),
        HEAD_BIAS: normal((len(header.classes), 1), 1)[:, 0],
        "a.down": normal((width, 3), 2),
        "a.up": normal((3, width), 3),
    }
    task = Task(header, encode_tensors(weights, store, header.head_store))
    path = tmp_path / "t.safetensors"
    adapted = {name: values.shape for name, values in weights.items() if name.startswith("a.")}
    assert write_task(task, path) == size_bytes(header, adapted)
    back = read_task(path)
    assert back.header == header
    assert back.tensors.keys() == task.tensors.keys()
    for name, values in task.tensors.items():
        assert back.tensors[name].dtype == values.dtype
        assert np.array_equal(back.tensors[name], values)
    outline = read_outline(path)
    assert {name: values.shape for name, values in outline.tensors.items()} == {
        name: values.shape for name, values in task.tensors.items()
    }
    assert {name: values.shape for name, values in task.tensors.items()} == tensor_shapes(header, adapted)


def test_a_low_matrix_has_its_scales_where_there_are_fewer(tmp_path: Path) -> None:
    header = header_of(store=Store.INT1)
    tall = {"b.lora_up": normal((64, 2), 0), "b.lora_down": normal((2, 64), 1)}
    tensors = encode_tensors(tall, Store.INT1)
    assert tensors["b.lora_up" + SCALE].shape == (1, 2)
    assert tensors["b.lora_down" + SCALE].shape == (2, 1)
    decoded = decode_tensors(tensors)
    for name, values in tall.items():
        assert ((decoded[name] - values) ** 2).mean() < 0.6 * (values**2).mean()
    assert header.store_of("b.lora_up") is Store.INT1


def test_one_bit_takes_a_fourteenth_of_sixteen() -> None:
    neurons = {"a.down": (768, 64), "a.up": (64, 768)}
    sixteen, one = (size_bytes(header_of(store=store), neurons) for store in (Store.FP16, Store.INT1))
    bare = [size_bytes(header_of(store=store), {}) for store in (Store.FP16, Store.INT1)]
    assert 14 < (sixteen - bare[0]) / (one - bare[1]) < 16


def test_what_is_no_packed_matrix_is_refused(tmp_path: Path) -> None:
    task, path = sample_task(Store.INT2), tmp_path / "t.safetensors"
    content = task_bytes(task)
    assert site_table({name: values.shape for name, values in task.tensors.items()})
    for wrong in (b'\\"packed\\":{', b'\\"store\\":\\"int2'):
        assert content.count(wrong) == 1
    changed: dict[bytes, Any] = {
        b'\\"store\\":\\"int2': b'\\"store\\":\\"int1',
        b'\\"store\\":\\"int2\\"': b'\\"store\\":\\"int8\\"',
    }
    for old, new in changed.items():
        path.write_bytes(content.replace(old, new))
        with pytest.raises(ArtifactError, match="does not fit together"):
            open_task(path)


@pytest.mark.parametrize("store", Store)
def test_a_head_of_few_bits_is_kept_in_more_unless_somebody_says_so(store: Store) -> None:
    assert own_head_store(store) is (Store.INT8 if store.low_bits else None)
    assert own_head_store(store, store) is None
    assert own_head_store(store, Store.FP32) is (None if store is Store.FP32 else Store.FP32)
