"""One training: epochs of steps on adapters and head, with the backbone frozen, stoppable after any step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from mimi_edge.durations import duration
from mimi_edge.errors import MimiEdgeError
from mimi_edge.events import Advance, Listener
from mimi_edge.training.augmentation.augment import augmented
from mimi_edge.training.augmentation.kinds import NONE
from mimi_edge.training.augmentation.mixing import Mixing, mixed
from mimi_edge.training.batches import DeviceImages, Place, PrefixTokens, training_order
from mimi_edge.training.config import TrainingConfig
from mimi_edge.training.drop_path import dropping_paths
from mimi_edge.training.early_end import is_out_of_patience
from mimi_edge.training.edited_model import EditedModel
from mimi_edge.training.ranks import LossOf, Share, adding_gradients_of, rank, rows_of, share_of, summed
from mimi_edge.training.rows import Rows
from mimi_edge.training.val_interval import epochs_between_looks

WARM_UP_SHARE = 0.05
FEWEST_WARM_UP_STEPS = 10
"""Of a training that has twice as many, else half of it. With a single one, AdamW threw neurons of one bit so far, at
rates of 1e-2 and more that they learned nothing any more (docs/recipes.md)."""
REPORT_SECONDS = 0.5
LARGEST_EVALUATION_BATCH = 256
IMAGES_FOR_ONE_TRAINED = 2
"""Images that are evaluated at once for each that is trained on at once: without gradients one takes a fifth of the
memory, so that whoever can train can evaluate."""


@dataclass
class EpochLoss:
    """Of the epoch that is going on.

    Attributes:
        sum: of the losses of its steps, float32 [] on the device.
        steps: how many there were.
    """

    sum: Tensor = field(default_factory=lambda: torch.zeros(()))
    steps: int = 0


@dataclass
class Progress:
    """Where a run stands; with the model and the optimizer, all that a checkpoint needs.

    Attributes:
        place: the next step to take.
        history: one entry for each epoch that ended.
        prunings: one entry for each pruning that was done.
        stored: validation accuracy of the weights as they would be stored, after each training; only where there is a
            target for it.
        loss: of the epoch that `place` is in, so far.
        seconds: that all of this took, in all sittings.
        threads: CPU threads that were used; a number for each time that it was another one.
        computed_in: precision and device that were used, `bf16 on cpu`; an entry for each time that it was another one.
        epochs: of each training, where time did not allow for those that were planned; else empty.
        epoch_seconds: `seconds` at the end of each epoch of `history`.
        rounds: one entry for each task that was kept after a training.
    """

    place: Place = field(default_factory=lambda: Place(0, 0, 0))
    history: list[dict[str, float]] = field(default_factory=list)
    prunings: list[dict[str, object]] = field(default_factory=list)
    stored: list[float] = field(default_factory=list)
    loss: EpochLoss = field(default_factory=EpochLoss)
    seconds: float = 0.0
    threads: list[int] = field(default_factory=list)
    computed_in: list[str] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)
    epoch_seconds: list[float] = field(default_factory=list)
    rounds: list[dict[str, object]] = field(default_factory=list)


@dataclass(frozen=True)
class RoundInputs:
    """What the steps of one training use.

    Attributes:
        train: images to learn from.
        val: images to watch.
        prefix: tokens of the frozen prefix of the training images, if they were computed.
        autocast: precision of the forward pass.
        epochs: of each training of the run.
        val_prefix: the same tokens of the validation images.
    """

    train: DeviceImages
    val: DeviceImages
    prefix: PrefixTokens | None
    autocast: torch.autocast
    epochs: tuple[int, ...]
    val_prefix: PrefixTokens | None = None


@dataclass(frozen=True)
class Hooks:
    """What happens around the steps.

    Attributes:
        listener: hears of the progress.
        after_step: called after each step; it may save, and may raise to stop.
        after_epoch: called after each epoch, before the `after_step` of its last step.
        is_time_up: asked after each step; when it says yes, the epoch ends there.
    """

    listener: Listener
    after_step: Callable[[], None]
    after_epoch: Callable[[], None] = lambda: None
    is_time_up: Callable[[], bool] = lambda: False


def learning_rate(config: TrainingConfig, step: int, steps: int, epochs: int = 1) -> float:
    """Linear warm-up, then a cosine to zero, over one training of so many steps and epochs."""
    if config.warm_up_epochs is None:
        warm_up = max(1, round(steps * WARM_UP_SHARE), min(FEWEST_WARM_UP_STEPS, steps // 2))
    else:
        warm_up = max(1, round(steps * config.warm_up_epochs / epochs))
    if step < warm_up:
        return config.learning_rate * (step + 1) / warm_up
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))


def make_optimizer(model: EditedModel, config: TrainingConfig) -> torch.optim.AdamW:
    """AdamW over everything that is trained."""
    parameters = list(model.trained_parameters().values())
    if config.decay_vectors:
        return torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
    groups = [
        {"params": [one for one in parameters if one.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [one for one in parameters if one.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate)


def training_step(
    model: EditedModel,
    optimizer: torch.optim.Optimizer,
    inputs: RoundInputs,
    index: Tensor,
    config: TrainingConfig,
    place: Place,
    passes: Callable[[LossOf], Tensor] = lambda loss_of: loss_of(),
) -> Tensor:
    """Takes one step on the images with these numbers, shared among all processes; gives the loss of all of them.

    Args:
        model: that learns.
        optimizer: of its parameters.
        inputs: images, and the precision.
        index: int64 [B] of the images.
        config: how to learn.
        place: of the step.
        passes: computes the loss, as of `adding_gradients_of`.

    Returns:
        The loss, still on the device.
    """
    share = share_of(len(index))
    with ExitStack() as held:
        chance = held.enter_context(dropping_paths(model.backbone, config.drop_path, config.seed, place, share))
        if config.grad_checkpointing:
            held.enter_context(model.recomputing(chance))
        loss = passes(lambda: batch_loss(model, inputs, index, config, place, share))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
    if config.clip_norm is not None:
        torch.nn.utils.clip_grad_norm_(model.trained_parameters().values(), config.clip_norm)
    optimizer.step()
    return loss.detach() if share.factor is None else summed(loss.detach().clone()) / rank().size


def sees_images(config: TrainingConfig) -> bool:
    """Whether every step needs the images: nothing that was computed of them before would do."""
    return config.augment != NONE or bool(_mixing(config)) or config.drop_path > 0


def batch_loss(
    model: EditedModel,
    inputs: RoundInputs,
    index: Tensor,
    config: TrainingConfig,
    place: Place,
    share: Share | None = None,
) -> Tensor:
    """Cross-entropy of one batch, or of a share of it, which then counts as much as it is large."""
    rows = Rows.all_of(len(index)) if share is None else share.rows
    if inputs.prefix is not None:
        index = rows.of_batch(index)
        with inputs.autocast:
            logits = model.run_from(inputs.prefix.tokens[index], inputs.prefix.start)
        targets = inputs.train.labels[index]
    else:
        pixels, targets = _varied(inputs.train, index, config, place, model.head.out_features, rows)
        with inputs.autocast:
            logits = model(inputs.train.normalised(pixels))
    loss = functional.cross_entropy(logits.float(), targets, label_smoothing=config.label_smoothing)
    return loss if share is None or share.factor is None else loss * share.factor


def _varied(
    images: DeviceImages, index: Tensor, config: TrainingConfig, place: Place, classes: int, rows: Rows
) -> tuple[Tensor, Tensor]:
    """Pixels [b, 3, H, W] of 0..255, and their targets: labels [b], or shares of classes [b, C] where it mixes."""
    seen = _rows_seen(rows, config)
    pixels = augmented(images.at(index, seen, place), config.augment, config.seed, place, seen)
    labels = images.labels[seen.of_batch(index)]
    if not (mixing := _mixing(config)):
        return pixels, labels
    return mixed(pixels, functional.one_hot(labels, classes).float(), mixing, config.seed, place, rows)


def _rows_seen(rows: Rows, config: TrainingConfig) -> Rows:
    """The images that some rows are made of: themselves, and those that they are mixed with."""
    return rows.with_mirrored() if _mixing(config) else rows


def _mixing(config: TrainingConfig) -> Mixing:
    return Mixing(config.mixup, config.cutmix)


def train_round(
    model: EditedModel,
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
    passes = adding_gradients_of(model.trained_parameters().values())
    meter = _Meter(inputs, config, hooks.listener, batches)
    device = inputs.train.labels.device
    while not _is_over(inputs, config, progress):
        begin, epochs = progress.place, epochs_of(inputs.epochs, progress)[progress.place.round]
        if begin.step == 0:
            progress.loss = EpochLoss(torch.zeros((), device=device))
        order = training_order(inputs.train, config.seed, begin, balance=config.balance).to(device)
        if inputs.prefix is None:
            to_come = order.split(config.batch_size)[begin.step :]
            inputs.train.will_vary([(one, _rows_seen(share_of(len(one)).rows, config)) for one in to_come], begin)
        for step in range(begin.step, batches):
            here = Place(begin.round, begin.epoch, step)
            index = order[step * config.batch_size : (step + 1) * config.batch_size]
            _set_rate(optimizer, learning_rate(config, here.epoch * batches + step, epochs * batches, epochs))
            progress.loss.sum += training_step(model, optimizer, inputs, index, config, here, passes)
            progress.loss.steps += 1
            if step + 1 < batches and not hooks.is_time_up():
                progress.place = Place(here.round, here.epoch, step + 1)
            else:
                _end_epoch(model, inputs, config, progress)
                hooks.after_epoch()
            meter.tick(here, progress)
            hooks.after_step()
            if progress.place.epoch > here.epoch:
                break


def epochs_of(planned: tuple[int, ...], progress: Progress) -> tuple[int, ...]:
    """Of each training: those that were planned, or what time has left of them."""
    return tuple(progress.epochs) or planned


def _is_over(inputs: RoundInputs, config: TrainingConfig, progress: Progress) -> bool:
    """Whether the training that `progress` is in has had all its epochs, or what is left would change little."""
    place = progress.place
    if place.epoch >= epochs_of(inputs.epochs, progress)[place.round]:
        return True
    return place.step == 0 and is_out_of_patience(progress.history, place.round, config.patience)


def _set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def _end_epoch(model: EditedModel, inputs: RoundInputs, config: TrainingConfig, progress: Progress) -> None:
    place, loss = progress.place, (progress.loss.sum / progress.loss.steps).item()
    if not math.isfinite(loss):
        raise MimiEdgeError(
            f"The loss became {loss} in training {place.round + 1}, epoch {place.epoch + 1}. "
            "Start again with a lower --lr, or with --precision fp32."
        )
    seen: dict[str, float] = {}
    if _is_looked_at(inputs, config, progress):
        with inputs.autocast:
            seen["val_accuracy"] = evaluate(model, inputs.val, evaluation_batch(config), inputs.val_prefix)
    shared = {} if rank().is_alone else {"processes": rank().size, "gradient_bytes": model.trained_bytes}
    ended = {"round": place.round, "epoch": place.epoch, "loss": loss}
    progress.history.append(ended | seen | shared)
    progress.place = Place(place.round, place.epoch + 1, 0)


def _is_looked_at(inputs: RoundInputs, config: TrainingConfig, progress: Progress) -> bool:
    """Whether validation images are looked at after the epoch that has just had its last step."""
    place, ended = progress.place, progress.place.epoch + 1
    is_last = ended >= epochs_of(inputs.epochs, progress)[place.round]
    return is_last or ended % epochs_between_looks(config, len(inputs.train), len(inputs.val)) == 0


def evaluation_batch(config: TrainingConfig) -> int:
    """How many images to evaluate at once, in no more memory than a training step takes."""
    return min(LARGEST_EVALUATION_BATCH, IMAGES_FOR_ONE_TRAINED * config.batch_size)


def evaluate(model: EditedModel, images: DeviceImages, batch_size: int, prefix: PrefixTokens | None = None) -> float:
    """Top-1 accuracy, a share of 0..1; arguments as of `answers`."""
    return share_right(answers(model, images, batch_size, prefix), images)


def share_right(answered: Tensor, images: DeviceImages) -> float:
    """Which share of the answers, int64 [n], is right."""
    return (answered == images.labels).sum().item() / len(images)


@torch.no_grad()
def answers(model: EditedModel, images: DeviceImages, batch_size: int, prefix: PrefixTokens | None = None) -> Tensor:
    """The most probable class of each image, int64 [n], in whatever precision surrounds the call.

    Args:
        model: that answers.
        images: n of them.
        batch_size: images at once.
        prefix: their tokens behind the frozen prefix, if they were computed.
    """
    answered = torch.zeros_like(images.labels)
    rows = rows_of(len(images))
    batches = [slice(start, min(start + batch_size, rows.stop)) for start in rows[::batch_size]]
    if prefix is None:
        images.will_give(batches)
    for chosen in batches:
        if prefix is not None:
            logits = model.run_from(prefix.tokens[chosen], prefix.start)
        else:
            logits = model(images.normalised(images.images[chosen]))
        answered[chosen] = logits.argmax(1)
    return summed(answered)


class _Meter:
    """Says twice a second how the training goes; reading the loss any more often would hold up a GPU."""

    def __init__(self, inputs: RoundInputs, config: TrainingConfig, listener: Listener, batches: int) -> None:
        self._config, self._listener, self._batches = config, listener, batches
        self._images, self._planned = len(inputs.train), inputs.epochs
        self._started = self._told = time.monotonic()
        self._steps = 0

    def tick(self, here: Place, progress: Progress) -> None:
        """Counts a step, and speaks when it is time to."""
        self._steps += 1
        now = time.monotonic()
        epochs = epochs_of(self._planned, progress)
        done, total = here.epoch * self._batches + here.step + 1, epochs[here.round] * self._batches
        if now - self._told < REPORT_SECONDS and done < total:
            return
        self._told = now
        figures = self._figures(here, progress, epochs, max(now - self._started, 1e-9))
        self._listener(Advance(f"training {here.round + 1} of {len(epochs)}", done, max(done, total), figures))

    def _figures(self, here: Place, progress: Progress, epochs: tuple[int, ...], seconds: float) -> dict[str, str]:
        images = self._steps * min(self._config.batch_size, self._images)
        figures = {
            "epoch": f"{here.epoch + 1}/{max(here.epoch + 1, epochs[here.round])}",
            "loss": f"{progress.loss.sum.item() / progress.loss.steps:.3f}",
            "images/s": f"{images / seconds:.0f}",
        }
        looked = [entry for entry in progress.history if entry["round"] == here.round and "val_accuracy" in entry]
        if looked:
            figures["val"] = f"{looked[-1]['val_accuracy']:.1%}"
        if (left := self._steps_left(here, epochs)) > 0:
            figures["all done in"] = f"about {duration(left * seconds / self._steps)}"
        return figures

    def _steps_left(self, here: Place, epochs: tuple[int, ...]) -> int:
        """In all trainings; smaller adapters are no slower, so that the time for them is the most that it takes."""
        epochs_left = sum(epochs[here.round :]) - here.epoch
        return epochs_left * self._batches - here.step - 1
