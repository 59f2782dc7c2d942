"""The end of a run: the task file, what it answers, pictures, and the report that says that it is finished."""

from __future__ import annotations

import shlex
from dataclasses import asdict, replace
from pathlib import Path

import torch

from mimi_edge.confusion import Confusion
from mimi_edge.documents import typed
from mimi_edge.errors import MimiEdgeError
from mimi_edge.files import sha256_of, write_json
from mimi_edge.methods.catalogue import method_named
from mimi_edge.tasks.files import write_task
from mimi_edge.training.config import ANSWERS_FILE, CONFUSION_FILE, REPORT_FILE, TASK_SUFFIX
from mimi_edge.training.edited_model import EditedModel
from mimi_edge.training.keeper import Keeper
from mimi_edge.training.loop import Progress, evaluation_batch
from mimi_edge.training.measured_task import Measured
from mimi_edge.training.open_run import Run
from mimi_edge.training.outcomes import Prunings, epochs_in_time, neurons_by_round, next_neuron, outcome, validation
from mimi_edge.training.recorded_answers import RecordedAnswers, answered_positions, pixels_sha256, write_answers
from mimi_edge.training.reports import TrainingReport, report_document
from mimi_edge.training.round_files import RoundPoint
from mimi_edge.training.run_pictures import SPLIT, draw_neurons, draw_rounds, write_confusion


def finish(
    run: Run, model: EditedModel, measured: Measured, progress: Progress, prunings: Prunings, keeper: Keeper
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
        write_json(run.folder / REPORT_FILE, document)
    except OSError as error:
        unwritten.append(
            f"{error.filename} cannot be written ({error.strerror}). The task file is whole; for the rest, make room "
            f"and go on: mimi-edge train --resume {shlex.quote(str(run.folder))}"
        )
    return tuple(unwritten)
