"""The rounds of a run: training and pruning in turn, down to the budget, as long as accuracy holds."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict, replace

import torch

from mimi_edge.errors import ArtifactError
from mimi_edge.events import Note
from mimi_edge.methods.catalogue import method_named
from mimi_edge.tasks.task import decode_tensors
from mimi_edge.training.batches import Place, PrefixTokens, prefix_tokens, training_order
from mimi_edge.training.devices import autocast, cache_limit_bytes
from mimi_edge.training.edited_model import EditedModel, Rounding
from mimi_edge.training.epoch_log import EpochLog
from mimi_edge.training.epoch_watch import EpochWatch
from mimi_edge.training.keeper import Keeper
from mimi_edge.training.loop import (
    Hooks,
    Progress,
    RoundInputs,
    batch_loss,
    epochs_of,
    evaluate,
    evaluation_batch,
    sees_images,
    train_round,
)
from mimi_edge.training.measured_task import Measured, measured_task
from mimi_edge.training.open_run import Run
from mimi_edge.training.pruning import prune
from mimi_edge.training.ranks import rank
from mimi_edge.training.round_files import write_round
from mimi_edge.training.rounded import straight_through
from mimi_edge.training.score_statistics import LossOfBatch
from mimi_edge.training.targets import holds
from mimi_edge.training.time_limit import before_next


def all_rounds(
    run: Run, model: EditedModel, optimizer: torch.optim.AdamW, progress: Progress, keeper: Keeper
) -> Measured | None:
    """Trains and prunes in turn, as long as accuracy holds; the last training is not followed by a pruning.

    Returns:
        The task after the last training, if it was measured.
    """
    config, epochs = run.prepared.config, run.prepared.epochs
    trainings = len(epochs)
    log = EpochLog(run.folder, progress, tensorboard=config.tensorboard, listener=run.listener)
    watch = EpochWatch(config, epochs, progress, log, lambda: keeper.seconds, run.listener)
    hooks = Hooks(
        run.listener,
        after_step=lambda: keeper.after_step(model, optimizer, progress),
        after_epoch=lambda: _epoch_ended(run, model, optimizer, watch),
        is_time_up=watch.is_time_up,
    )
    measured = None
    try:
        while progress.place.round < trainings and accuracy_holds(run, progress):
            rounding = _rounding(run, progress.place.round, trainings)
            inputs = _inputs(run, model, epochs)
            watch.round_begins()
            _note_ranks(run, model)
            with model.rounding_with(rounding):
                train_round(model, optimizer, inputs, config, progress, hooks)
            _note_what_was_not_learned(run, progress)
            _measure_as_stored(run, model, optimizer, progress, keeper)
            measured = _keep_round(run, model, progress)
            # Where time is short, trainings are left out.
            progress.place = replace(
                progress.place, round=before_next(epochs_of(epochs, progress), progress.place.round)
            )
            if progress.place.round + 1 < trainings and accuracy_holds(run, progress):
                with model.rounding_with(rounding):
                    _prune_once(run, model, optimizer, progress)
            progress.place = Place(progress.place.round + 1, 0, 0)
            keeper.save(model, optimizer, progress)
    finally:
        log.close()
    return measured


def _epoch_ended(run: Run, model: EditedModel, optimizer: torch.optim.AdamW, watch: EpochWatch) -> None:
    sizes, prunes = dict(model.sizes), method_named(run.prepared.config.method).prunes
    watch.epoch_ended(
        optimizer.param_groups[0]["lr"], sum(sizes.values()) if prunes else None, run.prepared.costs.cost(sizes)
    )


def _keep_round(run: Run, model: EditedModel, progress: Progress) -> Measured | None:
    """Writes the task as it is after a training, and measures it: a pass over the images of both held-out splits."""
    config = run.prepared.config
    if not (config.keep_rounds and method_named(config.method).prunes):
        return None
    exact, number, measured = model.weights(), progress.place.round + 1, None
    try:
        measured = measured_task(run, model)
        cost = run.prepared.costs.cost(dict(model.sizes))
        progress.rounds.append(write_round(measured.task, cost, number, run.folder))
    except (ArtifactError, OSError) as error:  # the store cannot hold it, or there is no room; nothing depends on it
        said = error if isinstance(error, ArtifactError) else f"{error.filename} cannot be written ({error.strerror})."
        run.listener(Note(f"The task after training {number} is not kept: {said}"))
    model.load_weights(exact)
    return measured


def _rounding(run: Run, training: int, trainings: int) -> Rounding | None:
    """How weights are rounded in a training; not at all where all are kept in 8 bits and more."""
    header = run.prepared.costs.header
    if not any(store.low_bits for store in (header.store, header.head_store or header.store)):
        return None
    if run.prepared.config.round_from == "last" and training + 1 < trainings:
        return None
    return lambda name, weight: straight_through(name, weight, header.store_of(name))


def _note_ranks(run: Run, model: EditedModel) -> None:
    if not rank().is_alone:
        added = f"gradients that are added up: {model.trained_bytes:,} bytes a step"
        run.listener(Note(f"{rank().size} processes share each batch; {added}."))


def _note_what_was_not_learned(run: Run, progress: Progress) -> None:
    """A training that went astray may end as it should, with a task that is worth nothing."""
    labels, accuracy = run.images["val"].labels, progress.history[-1].get("val_accuracy")
    most_frequent = (torch.bincount(labels).max() / len(labels)).item()
    if accuracy is not None and accuracy <= most_frequent:
        run.listener(
            Note(
                f"After training {progress.place.round + 1}, {accuracy:.1%} of the validation images are recognised: "
                f"no more than by always saying the most frequent class ({most_frequent:.1%}). If that stays so, try a "
                "lower --lr, more --warm-up-epochs, or more --epochs."
            )
        )


def _measure_as_stored(
    run: Run, model: EditedModel, optimizer: torch.optim.AdamW, progress: Progress, keeper: Keeper
) -> None:
    """Where accuracy may end the run: measures what the task would reach in its file, and keeps it if that holds."""
    if run.prepared.config.target_accuracy is None:
        return
    exact, header = model.weights(), run.prepared.costs.header
    model.load_weights(decode_tensors(model.tensors(header.store, header.head_store)))
    progress.stored.append(evaluate(model, run.images["val"], evaluation_batch(run.prepared.config)))
    model.load_weights(exact)
    if accuracy_holds(run, progress):
        keeper.keep(model, optimizer, progress)


def accuracy_holds(run: Run, progress: Progress) -> bool:
    """Whether accuracy is no reason to stop: there is no target, nothing was measured yet, or it was good enough."""
    target = run.prepared.config.target_accuracy
    return target is None or not progress.stored or holds(progress.stored, target)


def _inputs(run: Run, model: EditedModel, epochs: tuple[int, ...]) -> RoundInputs:
    config = run.prepared.config
    precision, limit = autocast(run.device, config.precision), cache_limit_bytes(run.device)

    def tokens(split: str) -> PrefixTokens | None:
        return prefix_tokens(model, run.images[split], config.batch_size, precision, limit)

    return RoundInputs(
        train=run.images["train"],
        val=run.images["val"],
        prefix=None if sees_images(config) else tokens("train"),
        autocast=precision,
        epochs=epochs,
        val_prefix=tokens("val"),
    )


def exact_loss(run: Run, model: EditedModel, place: Place) -> LossOfBatch:
    """The loss of a training batch, by number, for scores: they are compared to the last bit."""
    config, images = run.prepared.config, run.images
    order = training_order(images["train"], config.seed, place, balance=config.balance)
    # In fp32, from the images on, whatever the training computes in.
    exact = RoundInputs(images["train"], images["val"], None, autocast(run.device, "fp32"), ())

    def loss_of_batch(number: int) -> torch.Tensor:
        start = number * config.batch_size % len(order)
        index = order[start : start + config.batch_size].to(run.device)
        return batch_loss(model, exact, index, config, Place(place.round, place.epoch, number))

    return loss_of_batch


def _prune_once(run: Run, model: EditedModel, optimizer: torch.optim.AdamW, progress: Progress) -> None:
    prepared, config, place = run.prepared, run.prepared.config, progress.place
    limit = prepared.schedule.limits[place.round]
    loss_of_batch = exact_loss(run, model, place)
    with model.recomputing() if config.grad_checkpointing else nullcontext():
        selection = prune(model, optimizer, limit, prepared.costs, config, loss_of_batch, prepared.stages)
    everywhere = {axis: selection.neurons.get(axis, 0) for axis in prepared.start}
    following = None if selection.next is None else asdict(selection.next)
    progress.prunings.append({"neurons": everywhere, "next": following})
    cost, empty = prepared.costs.cost(everywhere), sum(not count for count in everywhere.values())
    run.listener(
        Note(
            f"Pruned to {sum(everywhere.values())} neurons, {cost.size_bytes:,} bytes, {cost.flops / 1e9:.4g} GFLOPs"
            + (f"; {empty} of {len(everywhere)} sites are gone." if empty else ".")
        )
    )
