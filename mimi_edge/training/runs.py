"""A whole run: rounds of training and pruning down to the budget, and the task file that comes out.

A run lives in a folder: `config.json`, `split.json` (which image is in which split), `checkpoint.safetensors` while it
goes on, and at the end `<task>.safetensors`, `report.json` and `neurons.png`. What else is there is for people and for
other runs: `options.yaml`, `log.csv`, `rounds/`, `curve.png`, `confusion.csv` and `.png`; docs/runs.md has them all.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from mimi_edge.confusion import Confusion, confusion
from mimi_edge.documents import typed
from mimi_edge.errors import ArtifactError, MimiEdgeError
from mimi_edge.events import Listener, Note, silent
from mimi_edge.files import sha256_of, write_whole
from mimi_edge.images.copies import Copies, leakage_csv
from mimi_edge.images.dataset import LabelledImages, copies_in, decode_dataset, split_document
from mimi_edge.methods.catalogue import method_named
from mimi_edge.parts import TRAIN, install_line
from mimi_edge.recalls import ClassRecalls, class_recalls
from mimi_edge.sites import Neurons
from mimi_edge.tasks.files import write_task
from mimi_edge.tasks.task import SplitAccuracy, Task, decode_tensors
from mimi_edge.texts import json_text
from mimi_edge.training.augmentation.kinds import original_crop_in
from mimi_edge.training.augmentation.original_crops import OriginalCrops
from mimi_edge.training.batches import DeviceImages, Place, PrefixTokens, on_device, prefix_tokens, training_order
from mimi_edge.training.checkpoints import load_checkpoint
from mimi_edge.training.claims import Claim, claimed_again, claimed_new
from mimi_edge.training.config import (
    ANSWERS_FILE,
    CHECKPOINT_FILE,
    CONFIG_FILE,
    CONFUSION_FILE,
    KEPT_FILE,
    LEAKAGE_FILE,
    OPTIONS_FILE,
    REPORT_FILE,
    SPLIT_FILE,
    TASK_SUFFIX,
    TrainingConfig,
    config_document,
    read_config,
    read_split,
)
from mimi_edge.training.devices import autocast, cache_limit_bytes, chosen_device
from mimi_edge.training.edited_model import EditedModel, Rounding
from mimi_edge.training.epoch_log import EpochLog, check_tensorboard
from mimi_edge.training.epoch_watch import EpochWatch
from mimi_edge.training.keeper import Clock, Keeper
from mimi_edge.training.loop import (
    Hooks,
    Progress,
    RoundInputs,
    answers,
    batch_loss,
    epochs_of,
    evaluate,
    evaluation_batch,
    make_optimizer,
    sees_images,
    share_right,
    train_round,
)
from mimi_edge.training.option_values import options_text
from mimi_edge.training.outcomes import Prunings, epochs_in_time, neurons_by_round, next_neuron, outcome, validation
from mimi_edge.training.prepared_run import Prepared, measured_splits, prepare, with_image_counts
from mimi_edge.training.pruning import prune
from mimi_edge.training.ranks import first_before_others, rank
from mimi_edge.training.recorded_answers import RecordedAnswers, answered_positions, pixels_sha256, write_answers
from mimi_edge.training.reports import TrainingReport, finished_report, report_document
from mimi_edge.training.round_files import RoundPoint, write_round
from mimi_edge.training.rounded import straight_through
from mimi_edge.training.run_pictures import SPLIT, draw_neurons, draw_rounds, write_confusion
from mimi_edge.training.score_statistics import LossOfBatch
from mimi_edge.training.sittings import note_sitting
from mimi_edge.training.sparsity import choose_places
from mimi_edge.training.targets import holds
from mimi_edge.training.time_limit import before_next

CHECKPOINT_SECONDS = 15.0


@dataclass(frozen=True)
class Run:
    """A run that is under way: what was prepared, what lies on the device, and where it is kept.

    Attributes:
        folder: where it is kept.
        prepared: what it works on.
        images: of each split, on the device.
        copies: images that are the same as others.
        device: where it runs.
        listener: hears of the progress.
    """

    folder: Path
    prepared: Prepared
    images: Mapping[str, DeviceImages]
    copies: Copies
    device: torch.device
    listener: Listener


def run_training(
    config: TrainingConfig,
    folder: Path,
    *,
    listener: Listener = silent,
    should_stop: Callable[[], bool] = lambda: False,
    start: Neurons | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    clock: Clock = time.monotonic,
) -> TrainingReport:
    """Trains a task in a new run folder.

    Args:
        config: what to do.
        folder: of the run; made if it is not there.
        listener: hears of the progress.
        should_stop: asked after each step; when it says yes, the run saves itself and raises.
        start: neurons at each site to start with, instead of a uniform M/N.
        checkpoint_seconds: how much work may be lost when the process is killed.
        clock: seconds since some moment.

    Raises:
        ConfigError: the folder already holds a run, somebody is about to make one there, or options or data cannot
            be used.
        BudgetInfeasibleError: the budget cannot be met; nothing was trained.
        StoppedError: it was asked to stop; `resume_training` goes on.
    """
    with claimed_new(folder) as claim:
        return train_claimed(
            config,
            claim,
            listener=listener,
            should_stop=should_stop,
            start=start,
            checkpoint_seconds=checkpoint_seconds,
            clock=clock,
        )


def train_claimed(
    config: TrainingConfig,
    claim: Claim,
    *,
    listener: Listener = silent,
    should_stop: Callable[[], bool] = lambda: False,
    start: Neurons | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    clock: Clock = time.monotonic,
) -> TrainingReport:
    """Trains a task in a run folder that the caller has claimed; everything else is as of `run_training`."""
    started = clock()
    if config.tensorboard:
        check_tensorboard()
    _look_for_matplotlib(listener)
    with first_before_others():
        run = _opened(claim.folder, prepare(config, start=start, listener=listener), listener)
    # Only now: what cannot be used, or was interrupted before there is anything to go on with, leaves no folder.
    _write_json(run.folder / SPLIT_FILE, split_document(run.prepared.dataset))
    write_whole(run.folder / OPTIONS_FILE, options_text(config).encode())
    _write_json(run.folder / CONFIG_FILE, config_document(config) | {"start": None if start is None else dict(start)})
    return _go_on(run, started, should_stop, checkpoint_seconds, clock)


def resume_training(
    folder: Path,
    *,
    listener: Listener = silent,
    should_stop: Callable[[], bool] = lambda: False,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    clock: Clock = time.monotonic,
) -> TrainingReport:
    """Goes on with an interrupted run; on a CPU it ends with the bytes of an uninterrupted one.

    A run that is finished stays as it is, and is reported again.

    Raises:
        ConfigError: the folder holds no run, somebody is working on it, or its data has changed.
        ArtifactError: the checkpoint is damaged.
        StoppedError: it was asked to stop again.
    """
    started = clock()
    config, start = read_config(folder)
    if (report := finished_report(folder, config.name)) is not None:
        listener(Note(f"{folder} is finished: nothing is left to train, and nothing was changed."))
        return report
    with claimed_again(folder, config.name):
        with first_before_others():
            prepared = prepare(config, split=read_split(folder), start=start, listener=listener)
            run = _opened(folder, prepared, listener)
        return _go_on(run, started, should_stop, checkpoint_seconds, clock)


def _opened(folder: Path, prepared: Prepared, listener: Listener) -> Run:
    """A run with its images on the device."""
    config = prepared.config
    device = chosen_device(config.device)
    if config.train_on_val:
        listener(Note("The images for validation are trained on, too: accuracy on them, as said here, means little."))
    dataset = prepared.to_decode
    decoded = decode_dataset(
        dataset,
        prepared.backbone.preprocessing,
        skip_bad_images=config.skip_bad_images,
        listener=listener,
        images=config.images,
        copies=rank().here,
    )
    prepared = with_image_counts(prepared, {name: len(decoded[name].labels) for name in measured_splits(config)})
    prepared.backbone.module.to(device)
    copies = copies_in(dataset, decoded)
    return Run(folder, prepared, _images_on_device(decoded, prepared, device), copies, device, listener)


def _go_on(
    run: Run, started: float, should_stop: Callable[[], bool], checkpoint_seconds: float, clock: Clock
) -> TrainingReport:
    _write_leakage(run)
    model, optimizer, progress = _state(run)
    note_sitting(progress, run.device, run.prepared.config.precision, run.listener)
    keeper = Keeper(run.folder, should_stop, checkpoint_seconds, started - progress.seconds, clock)
    try:
        measured = _all_rounds(run, model, optimizer, progress, keeper)
        if _holds(run, progress):
            return _finish(run, model, measured or _measured_task(run, model), progress, progress.prunings, keeper)
    finally:
        model.release()
    model, prunings = _kept(run)
    try:
        return _finish(run, model, _measured_task(run, model), progress, prunings, keeper)
    finally:
        model.release()


def _images_on_device(
    decoded: Mapping[str, LabelledImages], prepared: Prepared, device: torch.device
) -> dict[str, DeviceImages]:
    config, preprocessing = prepared.config, prepared.backbone.preprocessing
    images = {name: on_device(split, preprocessing, device) for name, split in decoded.items()}
    crop = original_crop_in(config.augment)
    if crop is not None and (originals := decoded["train"].originals(preprocessing)) is not None:
        parts = OriginalCrops(originals, crop.strength, config.seed, device)
        images["train"] = replace(images["train"], parts=parts)
    return images


def _state(run: Run) -> tuple[EditedModel, torch.optim.AdamW, Progress]:
    """The state of the last checkpoint, or of the beginning."""
    prepared, config = run.prepared, run.prepared.config
    checkpoint = run.folder / CHECKPOINT_FILE
    if checkpoint.exists():
        model, optimizer, progress = _restored(run, checkpoint)
        place = progress.place
        run.listener(Note(f"Going on with training {place.round + 1}, epoch {place.epoch + 1}, step {place.step + 1}."))
        return model, optimizer, progress
    classes = len(prepared.dataset.classes)
    model = EditedModel(prepared.backbone, prepared.description, classes, config.seed).to(run.device)
    choose_places(model, _exact_loss(run, model, Place(0, 0, 0)), config.seed)
    return model, make_optimizer(model, config), Progress()


def _restored(run: Run, path: Path) -> tuple[EditedModel, torch.optim.AdamW, Progress]:
    prepared, classes = run.prepared, len(run.prepared.dataset.classes)
    return load_checkpoint(path, prepared.backbone, prepared.description, classes, prepared.config, run.device)


def _kept(run: Run) -> tuple[EditedModel, Prunings]:
    """The last task whose accuracy held, and the prunings that led to it."""
    try:
        model, _, progress = _restored(run, run.folder / KEPT_FILE)
    except ArtifactError as error:
        raise ArtifactError(f"{error} Then {run.folder / CHECKPOINT_FILE} must go, too.") from error
    return model, progress.prunings


def _all_rounds(
    run: Run, model: EditedModel, optimizer: torch.optim.AdamW, progress: Progress, keeper: Keeper
) -> _Measured | None:
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
        while progress.place.round < trainings and _holds(run, progress):
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
            if progress.place.round + 1 < trainings and _holds(run, progress):
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


def _keep_round(run: Run, model: EditedModel, progress: Progress) -> _Measured | None:
    """Writes the task as it is after a training, and measures it: a pass over the images of both held-out splits."""
    config = run.prepared.config
    if not (config.keep_rounds and method_named(config.method).prunes):
        return None
    exact, number, measured = model.weights(), progress.place.round + 1, None
    try:
        measured = _measured_task(run, model)
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
    if _holds(run, progress):
        keeper.keep(model, optimizer, progress)


def _holds(run: Run, progress: Progress) -> bool:
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


def _exact_loss(run: Run, model: EditedModel, place: Place) -> LossOfBatch:
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
    loss_of_batch = _exact_loss(run, model, place)
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


def _finish(
    run: Run, model: EditedModel, measured: _Measured, progress: Progress, prunings: Prunings, keeper: Keeper
) -> TrainingReport:
    """Stores the weights, and writes down everything that is known of them.

    Args:
        run: that ends.
        model: the result.
        measured: the result, as it is stored.
        progress: of the whole run.
        prunings: that led to the result; the last one of the run may have gone too far.
        keeper: knows how long it took.
    """
    task = measured.task
    model.load_tensors(task.tensors)
    name = run.prepared.config.name
    path = run.folder / (name + TASK_SUFFIX)
    size = write_task(task, path)
    write_answers(_recorded(run, model, path), run.folder / ANSWERS_FILE)
    neurons = neurons_by_round(run.prepared, prunings)
    cost = run.prepared.costs.cost(neurons[-1])
    if size != cost.size_bytes:
        raise MimiEdgeError(f"{path} has {size} bytes where {cost.size_bytes} were computed. Please report this.")
    report = TrainingReport(
        task_file=path,
        cost=cost,
        budget=asdict(run.prepared.config.budget),
        next_neuron=next_neuron(run.prepared, prunings, neurons[-1]),
        neurons=neurons,
        accuracy=task.header.accuracy,
        per_class=measured.per_class,
        validation=validation(progress),
        frozen_blocks=model.frozen_blocks,
        seconds=keeper.seconds,
        threads=tuple(progress.threads),
        computed_in=tuple(progress.computed_in),
        target=outcome(run.prepared.config, progress),
        rounds=tuple(typed(progress.rounds, tuple[RoundPoint, ...])),
        epochs=epochs_in_time(progress),
    )
    return replace(report, unwritten=_written_down(run, report, progress, measured.confusion))


def _recorded(run: Run, model: EditedModel, task_file: Path) -> RecordedAnswers:
    """What the stored weights answer, for exports to be held against."""
    images, batch = run.images["test"], evaluation_batch(run.prepared.config)
    chosen = torch.from_numpy(answered_positions(len(images))).to(run.device)
    pixels = images.images[chosen]
    with torch.no_grad(), torch.backends.cudnn.flags(allow_tf32=False):
        logits = torch.cat([model(images.normalised(part)) for part in pixels.split(batch)])
    shown = pixels.permute(0, 2, 3, 1).cpu().numpy()
    return RecordedAnswers(logits.float().cpu().numpy(), sha256_of(task_file), pixels_sha256(shown))


def _written_down(run: Run, report: TrainingReport, progress: Progress, matrix: Confusion) -> tuple[str, ...]:
    """Draws and writes what was made; says what of it cannot be written, for the task itself is safe by now."""
    config, unwritten = run.prepared.config, []
    try:
        if method_named(config.method).prunes:
            draw_neurons(report.neurons, run.prepared.backbone.sites, run.folder, config.name, run.listener)
        draw_rounds(report.rounds, report.cost.size_bytes, run.folder, config, run.listener)
        write_confusion(matrix, run.folder, config.name, run.listener)
        mistakes = {"split": SPLIT, "file": CONFUSION_FILE, "most_confused": matrix.document()}
        # Last: a run that has its report is finished, and is not worked on again.
        document = report_document(report) | {"history": progress.history, "confusion": mistakes}
        _write_json(run.folder / REPORT_FILE, document)
    except OSError as error:
        unwritten.append(
            f"{error.filename} cannot be written ({error.strerror}). The task file is whole; for the rest, make room "
            f"and go on: mimi-edge train --resume {shlex.quote(str(run.folder))}"
        )
    return tuple(unwritten)


@dataclass(frozen=True)
class _Measured:
    """A task with its accuracy, the same class by class for each split, and what test images are taken for."""

    task: Task
    per_class: Mapping[str, ClassRecalls]
    confusion: Confusion


def _measured_task(run: Run, model: EditedModel) -> _Measured:
    """The task with the accuracy of its stored weights, in fp32, as every other runtime will compute them."""
    header, batch = run.prepared.costs.header, evaluation_batch(run.prepared.config)
    task = Task(header, model.tensors(header.store, header.head_store))
    model.load_tensors(task.tensors)
    answered = {split: answers(model, run.images[split], batch) for split in measured_splits(run.prepared.config)}
    accuracy = {
        split: SplitAccuracy(share_right(given, run.images[split]), len(given)) for split, given in answered.items()
    }
    pairs = {split: (given.cpu().numpy(), run.images[split].labels.cpu().numpy()) for split, given in answered.items()}
    recalls = {
        split: class_recalls(given, labels, header.classes, run.copies.seen_in("train").get(split, 0))
        for split, (given, labels) in pairs.items()
    }
    measured = replace(task, header=replace(header, accuracy=accuracy))
    return _Measured(measured, recalls, confusion(*pairs[SPLIT], header.classes))


def _look_for_matplotlib(listener: Listener) -> None:
    """Hours later is a bad time to say that there will be no picture."""
    if find_spec("matplotlib") is None:
        listener(
            Note(
                "matplotlib is not installed, so there will be no picture of the neurons; all else is written. For the "
                f"picture: {install_line(TRAIN)}"
            )
        )


def _write_leakage(run: Run) -> None:
    """Which images are in two splits; nothing is written where none is."""
    if run.copies.across:
        write_whole(run.folder / LEAKAGE_FILE, leakage_csv(run.copies))


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    write_whole(path, (json_text(document) + "\n").encode())
