"""A whole run: rounds of training and pruning down to the budget, and the task file that comes out.

A run lives in a folder: `config.json`, `split.json` (which image is in which split), `checkpoint.safetensors` while it
goes on, and at the end `<task>.safetensors`, `report.json` and `neurons.png`. What else is there is for people and for
other runs: `options.yaml`, `log.csv`, `rounds/`, `curve.png`, `confusion.csv` and `.png`; docs/runs.md has them all.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import torch

from mimi_edge.errors import ArtifactError
from mimi_edge.events import Listener, Note, silent
from mimi_edge.files import write_json, write_whole
from mimi_edge.images.copies import leakage_csv
from mimi_edge.images.dataset import split_document
from mimi_edge.parts import TRAIN, install_line
from mimi_edge.sites import Neurons
from mimi_edge.training.batches import Place
from mimi_edge.training.checkpoints import load_checkpoint
from mimi_edge.training.claims import Claim, claimed_again, claimed_new
from mimi_edge.training.config import (
    CHECKPOINT_FILE,
    CONFIG_FILE,
    KEPT_FILE,
    LEAKAGE_FILE,
    OPTIONS_FILE,
    SPLIT_FILE,
    TrainingConfig,
    config_document,
    read_config,
    read_split,
)
from mimi_edge.training.edited_model import EditedModel
from mimi_edge.training.epoch_log import check_tensorboard
from mimi_edge.training.keeper import Clock, Keeper
from mimi_edge.training.loop import Progress, make_optimizer
from mimi_edge.training.measured_task import measured_task
from mimi_edge.training.open_run import Run, opened
from mimi_edge.training.option_values import options_text
from mimi_edge.training.outcomes import Prunings
from mimi_edge.training.prepared_run import prepare
from mimi_edge.training.ranks import first_before_others
from mimi_edge.training.reports import TrainingReport, finished_report
from mimi_edge.training.rounds import accuracy_holds, all_rounds, exact_loss
from mimi_edge.training.run_end import finish
from mimi_edge.training.sittings import note_sitting
from mimi_edge.training.sparsity import choose_places

CHECKPOINT_SECONDS = 15.0


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
        run = opened(claim.folder, prepare(config, start=start, listener=listener), listener)
    # Only now: what cannot be used, or was interrupted before there is anything to go on with, leaves no folder.
    write_json(run.folder / SPLIT_FILE, split_document(run.prepared.dataset))
    write_whole(run.folder / OPTIONS_FILE, options_text(config).encode())
    write_json(run.folder / CONFIG_FILE, config_document(config) | {"start": None if start is None else dict(start)})
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
            run = opened(folder, prepared, listener)
        return _go_on(run, started, should_stop, checkpoint_seconds, clock)


def _go_on(
    run: Run, started: float, should_stop: Callable[[], bool], checkpoint_seconds: float, clock: Clock
) -> TrainingReport:
    _write_leakage(run)
    model, optimizer, progress = _state(run)
    note_sitting(progress, run.device, run.prepared.config.precision, run.listener)
    keeper = Keeper(run.folder, should_stop, checkpoint_seconds, started - progress.seconds, clock)
    try:
        measured = all_rounds(run, model, optimizer, progress, keeper)
        if accuracy_holds(run, progress):
            return finish(run, model, measured or measured_task(run, model), progress, progress.prunings, keeper)
    finally:
        model.release()
    model, prunings = _kept(run)
    try:
        return finish(run, model, measured_task(run, model), progress, prunings, keeper)
    finally:
        model.release()


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
    choose_places(model, exact_loss(run, model, Place(0, 0, 0)), config.seed)
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
