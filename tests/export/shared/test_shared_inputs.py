from __future__ import annotations

import numpy as np
import pytest
from export_samples import random_task, tiny_backbone
from hypothesis import given
from hypothesis import strategies as st
from shared_samples import different_tasks

from mimi_edge.errors import ArtifactError, ConfigError
from mimi_edge.export.shared.inputs import PADDED_LOGIT, answer_indices, bank_of, task_tensors, tensor_shapes
from mimi_edge.export.shared.layout import Spare, layout_of
from mimi_edge.tasks.task import decode_adapters, decode_head

BACKBONE = tiny_backbone("vit")
TASKS = different_tasks(BACKBONE)


@given(st.sampled_from(TASKS), st.integers(0, 3), st.integers(0, 3))
def test_padding_keeps_the_weights_and_adds_zeros(task, neurons, classes):
    layout = layout_of(TASKS, spare=Spare(neurons, classes))
    tensors = task_tensors(task, layout)
    assert {name: values.shape for name, values in tensors.items()} == tensor_shapes(layout)
    assert {values.dtype for values in tensors.values()} == {np.dtype(np.float32)}
    for site, adapter in decode_adapters(task).items():
        count = adapter.down.shape[1]
        assert (tensors[f"{site}.down"][:, :count] == adapter.down).all()
        assert (tensors[f"{site}.up"][:count] == adapter.up).all()
        assert not tensors[f"{site}.down"][:, count:].any()
        assert not tensors[f"{site}.up"][count:].any()
    for site in set(layout.sites) - set(task.sites):
        assert not tensors[f"{site}.down"].any()
        assert not tensors[f"{site}.up"].any()
    head = decode_head(task)
    own = len(head.bias)
    assert (tensors["head.weight"][:own] == head.weight).all()
    assert not tensors["head.weight"][own:].any()
    assert (tensors["head.bias"][:own] == head.bias).all()
    assert (tensors["head.bias"][own:] == PADDED_LOGIT).all()


def test_a_padded_class_has_a_finite_logit_in_half_precision_and_no_probability():
    assert np.isfinite(np.float16(PADDED_LOGIT))
    logits = np.array([[-200.0, PADDED_LOGIT]], np.float32)
    powers = np.exp(logits - logits.max())
    assert powers[0, 1] == 0


def test_a_bank_holds_the_tasks_in_their_order():
    layout = layout_of(TASKS)
    bank = bank_of(TASKS, layout)
    for turn, task in enumerate(TASKS):
        for name, values in task_tensors(task, layout).items():
            assert bank[name].shape == (len(TASKS), *values.shape)
            assert (bank[name][turn] == values).all()
    with pytest.raises(ConfigError, match="at least one resident task"):
        bank_of([], layout)


def test_a_task_that_does_not_fit_is_told_everything():
    layout = layout_of([random_task(BACKBONE, {"blocks.0.attn": 2}, classes=3)])
    wide = random_task(BACKBONE, {"blocks.0.attn": 5, "blocks.1.mlp": 1}, classes=4, name="roses")
    for call in (lambda: task_tensors(wide, layout), lambda: bank_of([wide], layout)):
        with pytest.raises(ArtifactError) as caught:
            call()
        for part in ("roses", "blocks.0.attn: the task has 5", "room for 2", "blocks.1.mlp", "classes: the task has 4"):
            assert part in str(caught.value)


def test_answers_name_frames_and_tasks_that_there_are():
    indices = answer_indices([(0, 2), (1, 0), (0, 2)], frames=2, tasks=3)
    assert {name: values.tolist() for name, values in indices.items()} == {
        "frame_of_answer": [0, 1, 0],
        "task_of_answer": [2, 0, 2],
    }
    assert all(values.dtype == np.int32 and values.flags.c_contiguous for values in indices.values())
    for wrong in ([(2, 0)], [(0, 3)], [(-1, 0)], [(0, -1)], []):
        with pytest.raises(ConfigError, match=r"frames 0\.\.1 by tasks 0\.\.2"):
            answer_indices(wrong, frames=2, tasks=3)
