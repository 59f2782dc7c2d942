"""Batches: order and augmentation that the place alone decides, and the frozen prefix that is computed once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from training_samples import CLASSES, adapted_model, randomised, small_config

from mimi_edge.images.dataset import Split, decode_split
from mimi_edge.images.preprocessing import Preprocessing
from mimi_edge.images.sources.builtin import ArrayImages
from mimi_edge.training import rounds, runs
from mimi_edge.training.backbones import LoadedBackbone
from mimi_edge.training.batches import (
    DeviceImages,
    Place,
    PrefixTokens,
    balanced_order,
    epoch_order,
    on_device,
    prefix_tokens,
)
from mimi_edge.training.devices import autocast
from mimi_edge.training.edited_model import EditedModel
from mimi_edge.training.loop import RoundInputs, batch_loss, evaluate, evaluation_batch, learning_rate

SIDE, COUNT, BATCH = 32, 11, 4
HERE = Place(1, 2, 3)
PLACES = (Place(0, 2, 3), Place(1, 0, 3), Place(1, 2, 0))
FP32 = autocast(torch.device("cpu"), "fp32")


def pixels(count: int = 40, side: int = SIDE) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=generator)


def some_images() -> DeviceImages:
    half = torch.full((3, 1, 1), 127.5)
    return DeviceImages(pixels(COUNT), torch.arange(COUNT) % CLASSES, half, half)


def test_on_a_cpu_the_images_stay_where_they_were_decoded() -> None:
    size, half = 16, (0.5, 0.5, 0.5)
    preprocessing = Preprocessing(size, size, "nearest", half, half)
    read = ArrayImages(np.random.default_rng(0).integers(0, 256, (5, size, size), np.uint8))
    decoded = decode_split(Split("train", ("a", "b"), np.arange(5) % 2, tuple("vwxyz"), read), preprocessing)
    there = on_device(decoded, preprocessing, torch.device("cpu"))
    assert there.images.is_contiguous()
    assert there.images.data_ptr() == decoded.images.ctypes.data
    np.testing.assert_array_equal(there.images.permute(0, 2, 3, 1).numpy(), decoded.images)


@given(st.integers(1, 60), st.integers(0, 2**40), st.integers(0, 5), st.integers(0, 5))
def test_an_epoch_sees_every_image_once(count: int, seed: int, number: int, epoch: int) -> None:
    order = epoch_order(count, seed, Place(number, epoch, 0))
    assert sorted(order.tolist()) == list(range(count))
    assert torch.equal(order, epoch_order(count, seed, Place(number, epoch, 9)))


def test_epochs_trainings_and_seeds_have_orders_of_their_own() -> None:
    orders = [
        epoch_order(50, seed, Place(number, epoch, 0)) for seed in (0, 1) for number in (0, 1) for epoch in (0, 1)
    ]
    assert len({tuple(order.tolist()) for order in orders}) == 8


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(0, 2**40), st.integers(0, 5))
def test_a_balanced_epoch_draws_every_class_alike(classes: list[int], seed: int, epoch: int) -> None:
    labels = torch.tensor(classes)
    order = balanced_order(labels, seed, Place(1, epoch, 0))
    assert len(order) == len(labels)
    assert torch.equal(order, balanced_order(labels, seed, Place(1, epoch, 9)))
    drawn = [(labels[order] == label).sum().item() for label in labels.unique()]
    assert max(drawn) - min(drawn) <= 1
    for label in labels.unique():
        times = torch.bincount(order, minlength=len(labels))[labels == label]
        assert times.max() - times.min() <= 1


def test_balanced_epochs_and_seeds_differ() -> None:
    labels = torch.arange(50) % 7
    orders = [balanced_order(labels, seed, Place(0, epoch, 0)) for seed in (0, 1) for epoch in (0, 1)]
    assert len({tuple(order.tolist()) for order in orders}) == 4


def last_block_only(backbone: LoadedBackbone) -> EditedModel:
    return randomised(adapted_model(backbone, {backbone.sites[-1].name: 3, backbone.sites[-2].name: 0}, CLASSES))


def gradients(model: EditedModel, prefix: PrefixTokens | None) -> tuple[float, dict[str, Tensor]]:
    images = some_images()
    inputs, config = RoundInputs(images, images, prefix, FP32, (1,)), small_config(Path("nowhere"))
    model.zero_grad(set_to_none=True)
    loss = batch_loss(model, inputs, torch.tensor([9, 2, 5]), config, HERE)
    loss.backward()
    return loss.item(), {name: value.grad for name, value in model.trained_parameters().items()}


def test_prefix_tokens_give_the_same_training_as_the_plain_forward(backbone: LoadedBackbone) -> None:
    model = last_block_only(backbone)
    try:
        assert model.frozen_blocks == len(backbone.blocks) - 1 > 0
        prefix = prefix_tokens(model, some_images(), BATCH, FP32, 10**9)
        assert prefix is not None
        assert len(prefix.tokens) == COUNT
        loss, short = gradients(model, prefix)
        plain_loss, plain = gradients(model, None)
        assert loss == pytest.approx(plain_loss, rel=1e-5)
        assert short.keys() == plain.keys()
        for name, gradient in short.items():
            torch.testing.assert_close(gradient, plain[name], rtol=1e-4, atol=1e-6)
        assert not prefix.tokens.requires_grad
    finally:
        model.release()


@settings(max_examples=12)
@given(data=st.data())
def test_what_runs_before_the_first_adapter_is_the_prefix(vit: LoadedBackbone, data: st.DataObject) -> None:
    neurons = {site.name: data.draw(st.integers(0, 1)) for site in vit.sites}
    first = next((index // 2 for index, site in enumerate(vit.sites) if neurons[site.name]), len(vit.sites) // 2)
    model = adapted_model(vit, neurons, CLASSES)
    try:
        assert model.frozen_blocks == first
        images = torch.randn(2, 3, SIDE, SIDE)
        for start in range(model.start + 1):
            assert torch.equal(model.run_from(model.run_before(images, start), start), model(images))
    finally:
        model.release()


def test_no_prefix_where_it_saves_no_block_or_does_not_fit(vit: LoadedBackbone) -> None:
    model = last_block_only(vit)
    one_image = 17 * 16 * 4
    try:
        assert prefix_tokens(model, some_images(), BATCH, FP32, one_image * COUNT) is not None
        assert prefix_tokens(model, some_images(), BATCH, FP32, one_image * COUNT - 1) is None
    finally:
        model.release()
    model = adapted_model(vit, {vit.sites[0].name: 1, vit.sites[-1].name: 1}, CLASSES)
    try:
        assert prefix_tokens(model, some_images(), BATCH, FP32, 10**9) is None
    finally:
        model.release()


@pytest.mark.parametrize(("augment", "splits"), [("none", [16, 6]), ("flip", [6])])
def test_runs_compute_the_prefix_of_a_split_once_unless_its_images_change(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, augment: str, splits: list[int]
) -> None:
    made: list[PrefixTokens | None] = []
    known = rounds.prefix_tokens

    def noting(*arguments: object) -> PrefixTokens | None:
        made.append(known(*arguments))
        return made[-1]

    monkeypatch.setattr(rounds, "prefix_tokens", noting)
    config = small_config(pictures, epochs=1, augment=augment)
    runs.run_training(config, tmp_path / "run", start={"blocks.2.mlp": 4})
    assert [len(tokens.tokens) for tokens in made if tokens is not None] == [2 * images for images in splits]


def test_a_run_with_the_prefix_learns_what_one_without_it_learns(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mimi_edge.tasks.files import read_task
    from mimi_edge.tasks.task import decode_head

    start = {"blocks.2.attn": 4, "blocks.2.mlp": 4}
    short = runs.run_training(small_config(pictures), tmp_path / "short", start=start)
    monkeypatch.setattr(rounds, "cache_limit_bytes", lambda _: 0)
    plain = runs.run_training(small_config(pictures), tmp_path / "plain", start=start)
    one, other = (decode_head(read_task(report.task_file)).weight for report in (short, plain))
    assert abs(one - other).max() < 1e-3


def test_the_rate_warms_up_and_falls_to_zero() -> None:
    config = small_config(Path("nowhere"), learning_rate=2.0)
    rates = [learning_rate(config, step, 400) for step in range(400)]
    assert rates[:20] == pytest.approx([(step + 1) / 10 for step in range(20)])
    assert max(rates) == rates[20] == 2.0
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert 0 < rates[-1] < 0.001


@pytest.mark.parametrize(("steps", "warm_up"), [(1, 1), (2, 1), (13, 6), (20, 10), (200, 10), (260, 13)])
def test_few_steps_warm_up_for_ten_or_half_of_them(steps: int, warm_up: int) -> None:
    config = small_config(Path("nowhere"), learning_rate=2.0)
    rates = [learning_rate(config, step, steps) for step in range(steps)]
    assert rates.index(2.0) == warm_up - 1
    assert rates[:warm_up] == pytest.approx([2.0 * (step + 1) / warm_up for step in range(warm_up)])


@pytest.mark.parametrize("with_prefix", [True, False])
def test_evaluation_takes_few_images_at_once_and_answers_alike(vit: LoadedBackbone, with_prefix: bool) -> None:
    model, images, seen = last_block_only(vit), some_images(), []
    try:
        prefix = prefix_tokens(model, images, BATCH, FP32, 10**9) if with_prefix else None
        expected = evaluate(model, images, COUNT, prefix)
        handle = vit.module.get_submodule(vit.sites[-1].name).register_forward_hook(
            lambda _module, _inputs, output: seen.append(len(output))
        )
        assert [evaluate(model, images, batch, prefix) for batch in (1, 3, BATCH)] == [expected] * 3
        assert seen == [1] * COUNT + [3, 3, 3, 2] + [4, 4, 3]
        handle.remove()
    finally:
        model.release()
    assert 0 < expected < 1


@given(st.integers(1, 1000))
def test_evaluation_follows_the_batches_of_training(batch_size: int) -> None:
    batch = evaluation_batch(small_config(Path("nowhere"), batch_size=batch_size))
    assert batch <= max(2 * batch_size, 1)
    assert batch == 256 or batch >= batch_size
