"""One training: epochs of steps on adapters and head, with the backbone frozen, stoppable after any step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from mimi_edge.errors import MimiEdgeError
from mimi_edge.events import Advance, Listener
from mimi_edge.training.adapters import AdaptedModel
from mimi_edge.training.batches import DeviceImages, Place, PrefixTokens, augmented, epoch_order
from mimi_edge.training.config import TrainingConfig

WARM_UP_SHARE = 0.05
REPORT_SECONDS = 0.5
EVALUATION_BATCH = 256


@dataclass
class Progress:
    """Where a run stands; with the model and the optimizer, all that a checkpoint needs.

    Attributes:
        place: the next step to take.
        history: one entry for each epoch that ended.
        prunings: one entry for each pruning that was done.
    """

    place: Place = field(default_factory=lambda: Place(0, 0, 0))
    history: list[dict[str, float]] = field(default_factory=list)
    prunings: list[dict[str, object]] = field(default_factory=list)


@dataclass(frozen=True)
class RoundInputs:
    """What the steps of one training use.

    Attributes:
        train: images to learn from.
        val: images to watch.
        prefix: tokens of the frozen prefix of the training images, if they were computed.
        autocast: precision of the forward pass.
        trainings: how many there are in the run.
        val_prefix: the same tokens of the validation images.
    """

    train: DeviceImages
    val: DeviceImages
    prefix: PrefixTokens | None
    autocast: torch.autocast
    trainings: int
    val_prefix: PrefixTokens | None = None


@dataclass(frozen=True)
class Hooks:
    """What happens around the steps.

    Attributes:
        listener: hears of the progress.
        after_step: called after each step; it may save, and may raise to stop.
    """

    listener: Listener
    after_step: Callable[[], None]


def learning_rate(config: TrainingConfig, step: int, steps: int) -> float:
    """Linear warm-up, then a cosine to zero, over one training."""
    warm_up = max(1, round(steps * WARM_UP_SHARE))
    if step < warm_up:
        return config.learning_rate * (step + 1) / warm_up
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))


def make_optimizer(model: AdaptedModel, config: TrainingConfig) -> torch.optim.AdamW:
    """AdamW over everything that is trained."""
    parameters = list(model.trained_parameters().values())
    return torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)


def training_step(
    model: AdaptedModel,
    optimizer: torch.optim.Optimizer,
    inputs: RoundInputs,
    index: Tensor,
    config: TrainingConfig,
    place: Place,
) -> Tensor:
    """Takes one step on the images with these numbers; gives the loss, still on the device."""
    loss = batch_loss(model, inputs, index, config, place)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return loss.detach()


def batch_loss(model: AdaptedModel, inputs: RoundInputs, index: Tensor, config: TrainingConfig, place: Place) -> Tensor:
    """Cross-entropy of one batch."""
    with inputs.autocast:
        if inputs.prefix is not None:
            logits = model.run_suffix(inputs.prefix.tokens[index], inputs.prefix.length)
        else:
            pixels = augmented(inputs.train.images[index], config.augment, config.seed, place)
            logits = model(inputs.train.normalised(pixels))
    return functional.cross_entropy(logits.float(), inputs.train.labels[index], label_smoothing=config.label_smoothing)


def train_round(
    model: AdaptedModel,
    optimizer: torch.optim.Optimizer,
    inputs: RoundInputs,
    config: TrainingConfig,
    progress: Progress,
    hooks: Hooks,
) -> None:
    """Takes all steps of one training that are still to be taken.

    Raises:
        MimiEdgeError: the loss is no longer a number.
    """
    batches = math.ceil(len(inputs.train) / config.batch_size)
    meter = _Meter(inputs, config, hooks.listener, batches)
    while progress.place.epoch < config.epochs:
        begin = progress.place
        losses = torch.zeros((), device=inputs.train.labels.device)
        order = epoch_order(len(inputs.train), config.seed, begin).to(losses.device)
        for step in range(begin.step, batches):
            here = Place(begin.round, begin.epoch, step)
            index = order[step * config.batch_size : (step + 1) * config.batch_size]
            _set_rate(optimizer, learning_rate(config, here.epoch * batches + step, config.epochs * batches))
            losses += training_step(model, optimizer, inputs, index, config, here)
            if step + 1 < batches:
                progress.place = Place(here.round, here.epoch, step + 1)
            else:
                _end_epoch(model, inputs, progress, losses / (batches - begin.step))
            meter.tick(here, losses, step + 1 - begin.step, progress)
            hooks.after_step()


def _set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def _end_epoch(model: AdaptedModel, inputs: RoundInputs, progress: Progress, mean_loss: Tensor) -> None:
    place, loss = progress.place, mean_loss.item()
    if not math.isfinite(loss):
        raise MimiEdgeError(
            f"The loss became {loss} in training {place.round + 1}, epoch {place.epoch + 1}. "
            "Start again with a lower --lr, or with --precision fp32."
        )
    with inputs.autocast:
        accuracy = evaluate(model, inputs.val, inputs.val_prefix)
    progress.history.append({"round": place.round, "epoch": place.epoch, "loss": loss, "val_accuracy": accuracy})
    progress.place = Place(place.round, place.epoch + 1, 0)


@torch.no_grad()
def evaluate(model: AdaptedModel, images: DeviceImages, prefix: PrefixTokens | None = None) -> float:
    """Top-1 accuracy, a share of 0..1, in whatever precision surrounds the call.

    Args:
        model: that answers.
        images: with the right answers.
        prefix: their tokens behind the frozen prefix, if they were computed.
    """
    right = torch.zeros((), dtype=torch.long, device=images.labels.device)
    for start in range(0, len(images), EVALUATION_BATCH):
        chosen = slice(start, start + EVALUATION_BATCH)
        if prefix is not None:
            logits = model.run_suffix(prefix.tokens[chosen], prefix.length)
        else:
            logits = model(images.normalised(images.images[chosen]))
        right += (logits.argmax(1) == images.labels[chosen]).sum()
    return right.item() / len(images)


class _Meter:
    """Says twice a second how the training goes; reading the loss any more often would hold up a GPU."""

    def __init__(self, inputs: RoundInputs, config: TrainingConfig, listener: Listener, batches: int) -> None:
        self._stage = f"training {{}} of {inputs.trainings}"
        self._config, self._listener, self._batches = config, listener, batches
        self._images = len(inputs.train)
        self._started = self._told = time.monotonic()
        self._steps = 0

    def tick(self, here: Place, losses: Tensor, steps_in_epoch: int, progress: Progress) -> None:
        """Counts a step, and speaks when it is time to."""
        self._steps += 1
        now = time.monotonic()
        last = here.epoch + 1 == self._config.epochs and here.step + 1 == self._batches
        if now - self._told < REPORT_SECONDS and not last:
            return
        self._told = now
        images = self._steps * min(self._config.batch_size, self._images)
        figures = {
            "epoch": f"{here.epoch + 1}/{self._config.epochs}",
            "loss": f"{losses.item() / steps_in_epoch:.3f}",
            "images/s": f"{images / max(now - self._started, 1e-9):.0f}",
        }
        if progress.history and progress.history[-1]["round"] == here.round:
            figures["val"] = f"{progress.history[-1]['val_accuracy']:.1%}"
        done = here.epoch * self._batches + here.step + 1
        total = self._config.epochs * self._batches
        self._listener(Advance(self._stage.format(here.round + 1), done, total, figures))
