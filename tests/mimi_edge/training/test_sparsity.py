"""Which weights of SparseAdapter stay: as many as are stored, the best by the score, the same in every run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from training_samples import small_config

from mimi_edge.errors import ArtifactError, ConfigError
from mimi_edge.methods.sparse_adapter import PLACES, VALUES
from mimi_edge.tasks.descriptions import description_of
from mimi_edge.tasks.files import read_task
from mimi_edge.training.edited_model import EditedModel
from mimi_edge.training.prepared_run import Prepared, prepare
from mimi_edge.training.runs import run_training
from mimi_edge.training.score_statistics import BATCHES
from mimi_edge.training.sparsity import choose_places

SETTINGS = {"neurons": 8, "sparsity": 0.75}


def prepared_with(pictures: Path, **settings: object) -> Prepared:
    return prepare(small_config(pictures, method="sparse-adapter", settings={**SETTINGS, **settings}))


def chosen_by(prepared: Prepared, loss) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Marked places, numbers at them, and the numbers of all places before anything was pruned."""
    model = EditedModel(prepared.backbone, prepared.description, 3, 5)
    try:
        count = prepared.description.tensors[1].first.count
        dense = model.first_values(VALUES, (1, count), 5).reshape(-1).numpy()
        choose_places(model, lambda number: loss(model, number), 5)
        marked = np.unpackbits(model.masks()[PLACES])
        return np.flatnonzero(marked), model.tensor(VALUES).detach().reshape(-1).numpy(), dense
    finally:
        model.release()


def test_snip_keeps_the_largest_products_of_weight_and_mean_gradient_of_all_sites(pictures: Path) -> None:
    slopes = [torch.randn(1, 10**5, generator=torch.Generator().manual_seed(n)) for n in range(BATCHES)]

    def loss(model: EditedModel, number: int) -> torch.Tensor:
        values = model.tensor(VALUES)
        return (values * slopes[number][:, : values.numel()]).sum()

    places, kept, dense = chosen_by(prepared_with(pictures), loss)
    gradient = (sum(slopes) / BATCHES).reshape(-1).numpy()[: len(dense)]
    worth = np.abs(dense * gradient)
    assert np.array_equal(kept, dense[places])
    others = np.setdiff1d(np.arange(len(dense)), places)
    assert worth[places].min() >= worth[others].max() * (1 - 1e-5)
    assert len(places) == len(dense) // 4 // 64 * 64


def test_magnitude_and_random_need_no_gradient(pictures: Path) -> None:
    def never(*_: object) -> torch.Tensor:
        raise AssertionError("no gradient is needed")

    places, _, dense = chosen_by(prepared_with(pictures, mask="magnitude"), never)
    others = np.setdiff1d(np.arange(len(dense)), places)
    assert np.abs(dense[places]).min() >= np.abs(dense[others]).max()
    drawn, kept, dense = chosen_by(prepared_with(pictures, mask="random"), never)
    assert np.array_equal(kept, dense[drawn])
    assert not np.array_equal(drawn, places)


def test_a_mask_is_chosen_before_training_and_a_wrong_one_is_refused(pictures: Path, tmp_path: Path) -> None:
    config = small_config(pictures, method="sparse-adapter", settings=SETTINGS, epochs=1)
    tasks = [read_task(run_training(config, tmp_path / name).task_file) for name in ("one", "two")]
    longer = replace(config, epochs=2)
    tasks.append(read_task(run_training(longer, tmp_path / "longer").task_file))
    masks = [task.tensors[PLACES] for task in tasks]
    assert all(np.array_equal(masks[0], mask) for mask in masks[1:])
    assert not np.array_equal(tasks[0].tensors[VALUES], tasks[2].tensors[VALUES])
    network = prepare(config).backbone.network
    assert description_of(tasks[0], network).shapes[VALUES] == tasks[0].tensors[VALUES].shape
    wrong = replace(tasks[0], tensors={**tasks[0].tensors, PLACES: np.zeros_like(masks[0])})
    with pytest.raises(ArtifactError, match="marked places"):
        description_of(wrong, network)


def test_nothing_left_is_refused(pictures: Path) -> None:
    with pytest.raises(ConfigError, match="must be a share below 1"):
        prepared_with(pictures, sparsity=1.0)
