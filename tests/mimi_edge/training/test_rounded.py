"""Training with weights of few bits: rounded on the way forward, kept as they were rounded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from training_samples import small_config, tiny_backbone

from mimi_edge.budgets import Budget
from mimi_edge.choices import Store
from mimi_edge.errors import StoppedError
from mimi_edge.images.dataset import decode_dataset, load_dataset
from mimi_edge.images.preprocessing import normalise
from mimi_edge.tasks.files import read_task
from mimi_edge.tasks.stores import decode_matrix, encode_matrix
from mimi_edge.tasks.task import HEAD_WEIGHT
from mimi_edge.training.references import reference_logits
from mimi_edge.training.rounded import straight_through
from mimi_edge.training.runs import resume_training, run_training

LOW = [store for store in Store if store.low_bits]


@pytest.mark.parametrize("store", LOW)
@pytest.mark.parametrize("name", ["a.down", "a.up"])
def test_training_rounds_as_the_file_will_and_gradients_pass(store: Store, name: str) -> None:
    weight = torch.randn(12, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    rounded = straight_through(name, weight, store)
    axis = 1  # the shorter one, whatever the name
    kept = decode_matrix(name, encode_matrix(name, weight.detach().numpy(), axis, store), axis)
    np.testing.assert_allclose(rounded.detach().numpy(), kept, atol=1e-6)
    (rounded * 3).sum().backward()
    assert weight.grad is not None
    assert torch.equal(weight.grad, torch.full((12, 5), 3.0))


@pytest.mark.parametrize("store", [Store.FP32, Store.FP16, Store.INT8])
def test_other_stores_leave_weights_as_they_are(store: Store) -> None:
    weight = torch.randn(4, 4)
    assert straight_through("a.down", weight, store) is weight
    assert straight_through("head.bias", weight[0], Store.INT1).data_ptr() == weight.data_ptr()


@pytest.mark.parametrize(
    ("store", "of_head", "round_from"),
    [(Store.INT1, None, "first"), (Store.INT2, Store.INT4, "last"), (Store.FP16, Store.INT1, "first")],
)
def test_a_run_of_few_bits_keeps_what_it_was_trained_with(
    store: Store, of_head: Store | None, round_from: str, pictures: Path, tmp_path: Path
) -> None:
    config = small_config(
        pictures, store=store, head_store=of_head, round_from=round_from, budget=Budget(size_bytes=2_300)
    )
    whole = run_training(config, tmp_path / "whole")
    assert whole.task_file.stat().st_size == whole.cost.size_bytes <= 2_300
    assert len(whole.neurons) > 1
    task = read_task(whole.task_file)
    assert (task.header.store, task.header.store_of(HEAD_WEIGHT)) == (store, of_head or Store.INT8)
    left = iter(range(11))  # of 16 steps
    with pytest.raises(StoppedError):
        run_training(config, tmp_path / "stopped", should_stop=lambda: next(left, None) is None)
    assert resume_training(tmp_path / "stopped").task_file.read_bytes() == whole.task_file.read_bytes()
    backbone = tiny_backbone("vit")
    test = decode_dataset(load_dataset(pictures, seed=0), backbone.preprocessing)["test"]
    answers = reference_logits(backbone, task)(normalise(test.images, backbone.preprocessing)).argmax(1)
    assert (answers == test.labels).mean() == pytest.approx(task.header.accuracy["test"].accuracy)


def test_passes_use_rounded_weights_only_from_the_training_that_was_asked_for(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: dict[str, int] = {}
    for when in ("first", "last"):
        calls[when] = 0

        def noted(name: str, weight: torch.Tensor, store: Store, when: str = when) -> torch.Tensor:
            calls[when] += 1
            return straight_through(name, weight, store)

        monkeypatch.setattr("mimi_edge.training.rounds.straight_through", noted)
        config = small_config(pictures, store=Store.INT1, round_from=when, budget=Budget(size_bytes=2_300))
        assert len(run_training(config, tmp_path / when).neurons) > 1
    assert 0 < calls["last"] < calls["first"] / 1.5
