"""`mimi-edge train`: from images to a pruned task file."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mimi_edge.cli.defaults import RUNS, say_next
from mimi_edge.cli.failures import INTERRUPTED
from mimi_edge.cli.options import AsJson, Threads
from mimi_edge.cli.output import document_or, explained, show_facts, show_table
from mimi_edge.cli.progress import watching
from mimi_edge.cli.rounds import show_rounds
from mimi_edge.cli.stop_requests import outliving_the_terminal, stop_requests
from mimi_edge.cli.training_options import AskedConfig, takes_training_options
from mimi_edge.durations import duration
from mimi_edge.errors import ConfigError, LostRankError, MimiEdgeError, StoppedError
from mimi_edge.events import Advance, Listener, Note, silent
from mimi_edge.profiles.rendering.table import Table
from mimi_edge.training.claims import claimed_free, claimed_new
from mimi_edge.training.config import (
    CHECKPOINT_FILE,
    CONFIG_FILE,
    CURVE_FILE,
    KEPT_FILE,
    ROUNDS_FOLDER,
    SPLIT_FILE,
    TrainingConfig,
    read_config,
)
from mimi_edge.training.torchrun import this_rank

if TYPE_CHECKING:
    from mimi_edge.training.reports import TrainingReport

HANDED_OUT = (CONFIG_FILE, SPLIT_FILE, CHECKPOINT_FILE, KEPT_FILE)
"""Files of a run that is gone on with, which all processes need."""


@explained
@takes_training_options
def command(
    asked: AskedConfig,
    run: Annotated[
        Path | None,
        typer.Option(
            "--run", "--output", "-o", help="Folder of the run.", show_default="runs/NAME, else runs/NAME-2 ..."
        ),
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with the interrupted run in this folder; no other options are needed.")
    ] = None,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Train a task down to a budget: large adapters first, the least important neurons removed round by round.

    Without --data and --backbone this is the built-in demonstration: mimi-edge train --budget-mb 0.5
    """
    if not this_rank().is_first:
        _train_along(asked, resume, threads)
        return
    config = _config(asked, run, resume)
    with watching() as heard, stop_requests(heard) as should_stop:
        listener = outliving_the_terminal(heard)
        if resume is not None:
            report = _gone_on_with(resume, config.name, threads, listener, should_stop)
        else:
            report = _begun(config, run, threads, listener, should_stop)
    from mimi_edge.training.reports import report_document

    document_or(as_json, report_document(report), lambda: _show(report))
    if report.unwritten:
        raise MimiEdgeError("\n".join(report.unwritten))
    say_next("mimi-edge", "export", report.task_file.parent)


def _begun(
    config: TrainingConfig, run: Path | None, threads: int | None, listener: Listener, should_stop: Callable[[], bool]
) -> TrainingReport:
    """Trains in a new folder, which is claimed before anything is loaded: another process may be looking for one."""
    claiming = claimed_free(RUNS / config.name) if run is None else claimed_new(run)
    with claiming as claim, _saying_how_to_go_on(claim.folder, listener):
        _load_torch(threads, listener)
        from mimi_edge.training.ranks import any_says, clock, joined
        from mimi_edge.training.runs import train_claimed

        with joined():
            return train_claimed(
                config, claim, listener=listener, should_stop=lambda: any_says(should_stop()), clock=clock
            )


def _gone_on_with(
    folder: Path, task: str, threads: int | None, listener: Listener, should_stop: Callable[[], bool]
) -> TrainingReport:
    """Goes on with an interrupted run; one that is finished needs no torch to say so, unless others wait."""
    from mimi_edge.training.reports import finished_report

    report = finished_report(folder, task)
    if report is not None:
        listener(Note(f"{folder} is finished: nothing is left to train, and nothing was changed."))
    if report is not None and this_rank().is_alone:
        return report
    with _saying_how_to_go_on(folder, listener):
        _load_torch(threads, listener)
        from mimi_edge.training.ranks import agreed, any_says, clock, hand_out, joined
        from mimi_edge.training.runs import resume_training

        with joined():
            if not agreed(report is None) and report is not None:
                return report
            hand_out(folder, HANDED_OUT)
            return resume_training(folder, listener=listener, should_stop=lambda: any_says(should_stop()), clock=clock)


def _train_along(asked: AskedConfig, resume: Path | None, threads: int | None) -> None:
    """What all processes do but the first, where torchrun started several: the same, in silence, and nothing stays.

    Only what goes wrong here alone is said.
    """
    with _leaving_the_word_to_the_first(), stop_requests(silent) as should_stop:
        try:
            config = asked.config() if resume is None else None
        except ConfigError as error:  # of the first, too, which says it
            raise typer.Exit(error.exit_code) from None
        _load_torch(threads, silent)
        from mimi_edge.training.ranks import agreed, any_says, clock, folder_of_its_own, hand_out, joined
        from mimi_edge.training.runs import resume_training, run_training

        def stops() -> bool:
            return any_says(should_stop())

        with joined(), folder_of_its_own() as folder:
            if config is not None:
                run_training(config, folder, should_stop=stops, clock=clock)
            elif agreed(True):
                hand_out(folder, HANDED_OUT)
                resume_training(folder, should_stop=stops, clock=clock)


@contextmanager
def _leaving_the_word_to_the_first() -> Iterator[None]:
    from mimi_edge.training.ranks import FirstFailedError

    try:
        yield
    except (StoppedError, LostRankError, FirstFailedError) as error:
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def _load_torch(threads: int | None, listener: Listener) -> None:
    listener(Advance("loading torch", 0, None))
    from mimi_edge.training.devices import use_threads

    use_threads(threads)


def _config(asked: AskedConfig, run: Path | None, resume: Path | None) -> TrainingConfig:
    """What was asked for now, or when the run that is gone on with was started."""
    if resume is None:
        return asked.config()
    if given := asked.given + (["--run"] if run is not None else []):
        raise ConfigError(
            f"--resume goes on with the options that the run was started with; leave out {', '.join(given)}."
        )
    return read_config(resume)[0]


@contextmanager
def _saying_how_to_go_on(folder: Path, listener: Listener) -> Iterator[None]:
    """After a second Ctrl-C or a full disk; a run that stopped as it was asked to says it by itself."""
    try:
        yield
    except LostRankError as error:
        raise LostRankError(
            f"{error} What was saved last is kept; go on, with as many processes or others: torchrun ... -m mimi_edge "
            f"train --resume {shlex.quote(str(folder))}"
        ) from error
    except (KeyboardInterrupt, OSError):
        if (folder / CONFIG_FILE).is_file():
            listener(Note(f"Go on from where it was saved: mimi-edge train --resume {shlex.quote(str(folder))}"))
        raise


def _show(report: TrainingReport) -> None:
    pruned = len(report.neurons) > 1
    if pruned:
        _show_neurons(report)
    show_rounds(report.rounds)
    show_facts(f"Task {report.task_file.stem}", _facts(report, pruned=pruned))


def _show_neurons(report: TrainingReport) -> None:
    final = report.neurons[-1]
    rows = [(site, *(neurons[site] for neurons in report.neurons)) for site in final]
    numbers = [number for number, epochs in enumerate(report.epochs) if epochs] or range(len(report.neurons))
    trainings = [str(number + 1) for number in numbers[: len(report.neurons)]]
    totals = ("all sites", *(sum(neurons.values()) for neurons in report.neurons))
    show_table(Table.of("Neurons per site, by training", ("site", *trainings), [*rows, totals]))


def _facts(report: TrainingReport, *, pruned: bool) -> dict[str, str]:
    from mimi_edge.tasks.descriptions import method_in_words
    from mimi_edge.tasks.files import read_outline

    facts = {
        "task file": str(report.task_file),
        "method": method_in_words(read_outline(report.task_file).header.method),
        "size": f"{report.cost.size_bytes:,} bytes",
        "forward pass": f"{report.cost.flops / 1e9:.5g} GFLOPs",
    }
    limit, flops = report.budget["size_bytes"], report.budget["flops"]
    if limit is not None:
        left = limit - report.cost.size_bytes
        said = f"{left:,} of {limit:,} bytes" if left >= 0 else f"none, {-left:,} bytes more than {limit:,}"
        facts["left of the budget"] = said
    if flops is not None:
        left, most = flops - report.cost.flops, f"{flops / 1e9:.5g}"
        said = f"{left / 1e9:.5g} of {most}" if left >= 0 else f"none, {-left / 1e9:.5g} more than {most}"
        facts["left of the GFLOPs"] = said
    if report.target is not None or report.epochs:
        facts["stopped because"] = report.stopped
    if report.next_neuron is not None:
        site, cost = report.next_neuron
        facts["with the next neuron"] = f"{cost.size_bytes:,} bytes, {cost.flops / 1e9:.5g} GFLOPs ({site})"
    for split, value in report.accuracy.items():
        facts[f"{split} accuracy"] = f"{value.accuracy:.2%} of {value.images} images, of the stored weights"
        if split in report.per_class:
            facts[f"{split}, class by class"] = report.per_class[split].sentence()
    if pruned:
        facts["empty sites"] = f"{sum(not count for count in report.neurons[-1].values())} of {len(report.neurons[-1])}"
    if report.rounds:
        facts["tasks on the way"] = f"{len(report.rounds)}, in {report.task_file.parent / ROUNDS_FOLDER}"
    if (curve := report.task_file.with_name(CURVE_FILE)).exists():
        facts["accuracy against bytes"] = str(curve)
    facts["blocks before anything trained"] = str(report.frozen_blocks)
    facts["took"] = duration(report.seconds)
    return facts
