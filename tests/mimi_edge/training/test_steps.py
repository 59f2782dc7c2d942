"""A training step by the paper's recipe: decay, clipping, mixed targets, warm-up, and when the prefix can be kept."""

from __future__ import annotations

import pytest
import torch
from training_samples import CLASSES, adapted_model, randomised, small_config, tiny_backbone

from mimi_edge.training.augmentation.mixing import Mixing, mixed
from mimi_edge.training.batches import DeviceImages, Place
from mimi_edge.training.config import TrainingConfig
from mimi_edge.training.devices import autocast
from mimi_edge.training.edited_model import EditedModel
from mimi_edge.training.loop import RoundInputs, batch_loss, learning_rate, make_optimizer, sees_images, training_step

HERE, COUNT = Place(0, 0, 0), 8
FP32 = autocast(torch.device("cpu"), "fp32")


def inputs() -> RoundInputs:
    half = torch.full((3, 1, 1), 127.5)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (COUNT, 3, 32, 32), dtype=torch.uint8, generator=generator)
    images = DeviceImages(pixels, torch.arange(COUNT) % CLASSES, half, half)
    return RoundInputs(images, images, None, FP32, (1,))


def config(**changes: object) -> TrainingConfig:
    return small_config("data", **changes)


def some_model() -> EditedModel:
    backbone = tiny_backbone("vit")
    return randomised(adapted_model(backbone, {site.name: 2 for site in backbone.sites}, CLASSES))


def test_weight_decay_may_leave_vectors_alone() -> None:
    model = some_model()
    for decays in (True, False):
        groups = make_optimizer(model, config(weight_decay=0.1, decay_vectors=decays)).param_groups
        held = {id(one): group["weight_decay"] for group in groups for one in group["params"]}
        named = model.trained_parameters()
        assert len(held) == len(named)
        assert held[id(model.head.bias)] == (0.1 if decays else 0.0)
        assert {held[id(one)] for one in named.values() if one.ndim > 1} == {0.1}


def test_a_long_gradient_is_shortened() -> None:
    lengths = {}
    for norm in (None, 1e-3):
        model = some_model()
        chosen = config(clip_norm=norm)
        training_step(model, make_optimizer(model, chosen), inputs(), torch.arange(COUNT), chosen, HERE)
        gradients = [one.grad.norm() for one in model.trained_parameters().values()]
        lengths[norm] = torch.stack(gradients).norm().item()
    assert lengths[None] > 1e-2
    assert lengths[1e-3] == pytest.approx(1e-3, rel=1e-3)


def test_dropped_paths_change_the_step_and_leave_the_backbone_as_it_was() -> None:
    model = some_model()
    plain = batch_loss(model, inputs(), torch.arange(COUNT), config(), HERE)
    optimizer = make_optimizer(model, config())
    dropped = training_step(
        model, optimizer, inputs(), torch.arange(COUNT), config(drop_path=0.5, clip_norm=1e-9), HERE
    )
    assert dropped != plain.detach()
    assert not any(module._forward_hooks for name, module in model.backbone.named_modules() if "drop_path" in name)


@pytest.mark.parametrize("changes", [{"mixup": 0.8}, {"cutmix": 1.0}])
def test_the_loss_of_mixed_images_is_that_of_mixed_targets(changes: dict[str, float]) -> None:
    model, given, index = some_model(), inputs(), torch.arange(COUNT)
    smoothed = torch.nn.functional.one_hot(given.train.labels, CLASSES) * 0.9 + 0.1 / CLASSES
    pixels, targets = mixed(given.train.images, smoothed, Mixing(**changes), 0, HERE)
    logged = model(given.train.normalised(pixels)).log_softmax(1)
    expected = -(targets * logged).sum(1).mean()
    chosen = config(label_smoothing=0.1, seed=0, **changes)
    torch.testing.assert_close(batch_loss(model, given, index, chosen, HERE), expected)


@pytest.mark.parametrize("changes", [{"augment": "flip"}, {"mixup": 0.8}, {"cutmix": 1.0}, {"drop_path": 0.1}])
def test_what_varies_from_step_to_step_needs_the_images(changes: dict[str, object]) -> None:
    assert sees_images(config(**changes))
    assert not sees_images(config(clip_norm=5.0, decay_vectors=False))


def test_warm_up_takes_the_epochs_it_is_given() -> None:
    chosen = small_config("data", epochs=10, warm_up_epochs=4, learning_rate=1.0)
    rates = [learning_rate(chosen, step, 50, 10) for step in range(50)]
    assert rates[:20] == [pytest.approx((step + 1) / 20) for step in range(20)]
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert rates[-1] < 0.01
