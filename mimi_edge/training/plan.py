"""What a run would do, without doing it: its rounds, what each leaves, and how long it may take."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch

from mimi_edge.budgets import Budget, Cost, largest_that_fits
from mimi_edge.events import Listener, Note, silent
from mimi_edge.images.decode import place_of
from mimi_edge.images.fitted import fitted_images, usable_threads
from mimi_edge.images.free_room import FILES
from mimi_edge.sites import Neurons
from mimi_edge.training.augmentation.kinds import original_crop_in
from mimi_edge.training.batches import DeviceImages, Place
from mimi_edge.training.config import TrainingConfig
from mimi_edge.training.devices import autocast, chosen_device
from mimi_edge.training.edited_model import EditedModel
from mimi_edge.training.loop import RoundInputs, make_optimizer, training_step
from mimi_edge.training.prepared_run import Prepared, prepare

TIMED_STEPS = 3
TIMED_IMAGES = 64


@dataclass(frozen=True)
class PlannedTraining:
    """One training, and the limit of the pruning after it.

    Attributes:
        epochs: that it takes.
        limit: what the pruning after it must come down to; None after the last.
        largest: what the task would cost, at most, while it is trained.
        neurons: an example of what is left to train, all sites losing alike; training decides the real numbers.
    """

    epochs: int
    limit: Budget | None
    largest: Cost
    neurons: Neurons


@dataclass(frozen=True)
class Plan:
    """A run that was thought through.

    Attributes:
        prepared: what it would start from.
        trainings: in their order.
        images_per_s: of training at the largest size, from a few timed steps.
        decoded_per_s: images, from a few that were decoded.
        decoded_before: images that are decoded before the first step.
        decodes_in_epochs: whether each is decoded anew in every epoch, too.
        seconds: that all of this would take at these speeds.
    """

    prepared: Prepared
    trainings: tuple[PlannedTraining, ...]
    images_per_s: float
    decoded_per_s: float
    decoded_before: int
    decodes_in_epochs: bool

    @property
    def seconds_before(self) -> float:
        """Of decoding before the first step."""
        return self.decoded_before / self.decoded_per_s

    @property
    def seconds(self) -> float:
        """Of everything."""
        config, images = self.prepared.config, len(self.prepared.to_decode.splits["train"])
        trained, decoded = 1 / self.images_per_s, 1 / self.decoded_per_s if self.decodes_in_epochs else 0.0
        # On a GPU while others are decoded, on a CPU by the processors that decode, too.
        each = trained + decoded if chosen_device(config.device).type == "cpu" else max(trained, decoded)
        return self.seconds_before + each * images * sum(training.epochs for training in self.trainings)


def plan_training(config: TrainingConfig, *, listener: Listener = silent) -> Plan:
    """Plans a run; nothing is trained or written.

    Raises:
        ConfigError: options or data cannot be used.
        BudgetInfeasibleError: the budget cannot be met.
    """
    prepared = prepare(config, listener=listener)
    trainings = tuple(_trainings(prepared))
    placed = place_of(prepared.to_decode, prepared.backbone.preprocessing, config.images, listener=listener)
    listener(Note("Timing a few steps at the largest size."))
    return Plan(
        prepared,
        trainings,
        images_per_s=_images_per_s(prepared),
        decoded_per_s=_decoded_per_s(prepared),
        decoded_before=placed.to_decode,
        decodes_in_epochs=placed.place == FILES or original_crop_in(config.augment) is not None,
    )


def _decoded_per_s(prepared: Prepared) -> float:
    """Images that the threads of this process decode in a second, damaged ones included."""
    some = prepared.dataset.splits["train"].some(TIMED_IMAGES)
    started = time.perf_counter()
    count = sum(1 for _ in fitted_images(some, prepared.backbone.preprocessing, usable_threads()))
    return count / (time.perf_counter() - started)


def _trainings(prepared: Prepared) -> list[PlannedTraining]:
    planned, neurons, before = [], prepared.start, prepared.start_cost
    epochs = prepared.epochs
    for count, limit in zip(epochs, (*prepared.schedule.limits, None), strict=True):
        planned.append(PlannedTraining(count, limit, before, neurons))
        if limit is not None:
            neurons = _evenly_within(prepared, limit)
            before = Cost(
                before.size_bytes if limit.size_bytes is None else min(before.size_bytes, limit.size_bytes),
                before.flops if limit.flops is None else min(before.flops, limit.flops),
            )
    return planned


def _evenly_within(prepared: Prepared, limit: Budget) -> Neurons:
    """The start scaled down alike everywhere until it fits, to a thousandth."""

    def fits(thousandths: int) -> bool:
        return prepared.costs.cost(_scaled(prepared.start, thousandths)).within(limit)

    return _scaled(prepared.start, largest_that_fits(0, 1000, fits))


def _scaled(neurons: Neurons, thousandths: int) -> dict[str, int]:
    return {site: math.floor(count * thousandths / 1000) for site, count in neurons.items()}


def _images_per_s(prepared: Prepared) -> float:
    config, backbone = prepared.config, prepared.backbone
    device = chosen_device(config.device)
    backbone.module.to(device)
    size, batch = backbone.preprocessing.size, min(config.batch_size, len(prepared.to_decode.splits["train"]))
    classes = len(prepared.dataset.classes)
    model = EditedModel(backbone, prepared.description, classes, config.seed).to(device)
    made_up = DeviceImages(
        images=torch.zeros(batch, 3, *size, dtype=torch.uint8, device=device),
        labels=torch.zeros(batch, dtype=torch.long, device=device),
        mean=torch.zeros(3, 1, 1, device=device),
        std=torch.ones(3, 1, 1, device=device),
    )
    inputs = RoundInputs(made_up, made_up, None, autocast(device, config.precision), (1,))
    optimizer, index = make_optimizer(model, config), torch.arange(batch, device=device)
    try:
        training_step(model, optimizer, inputs, index, config, Place(0, 0, 0)).item()
        started = time.perf_counter()
        for step in range(TIMED_STEPS):
            loss = training_step(model, optimizer, inputs, index, config, Place(0, 0, step + 1))
        loss.item()
        return TIMED_STEPS * batch / (time.perf_counter() - started)
    finally:
        model.release()
