"""`mimi-edge train`: from images to a pruned task file."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mimi_edge.cli.defaults import RUNS, say_next
from mimi_edge.cli.options import AsJson, AskedConfig, Threads, takes_training_options
from mimi_edge.cli.output import document_or, explained, show_facts, show_table
from mimi_edge.cli.stopping import stop_requests
from mimi_edge.cli.watching import watching
from mimi_edge.errors import ConfigError
from mimi_edge.events import Advance, Listener, Note

if TYPE_CHECKING:
    from mimi_edge.training.config import TrainingConfig
    from mimi_edge.training.runs import TrainingReport


@explained
@takes_training_options
def command(
    asked: AskedConfig,
    run: Annotated[
        Path | None,
        typer.Option(help="Folder of the run.", show_default="runs/NAME, else runs/NAME-2 ..."),
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
    config = _config(asked, run, resume)
    folder = resume or run or free_folder(RUNS / config.name)
    with watching() as listener, stop_requests(listener) as should_stop, _saying_how_to_go_on(folder, listener):
        listener(Advance("loading torch", 0, None))
        from mimi_edge.training.devices import use_threads
        from mimi_edge.training.runs import report_document, resume_training, run_training

        use_threads(threads)
        if resume is not None:
            report = resume_training(resume, listener=listener, should_stop=should_stop)
        else:
            report = run_training(config, folder, listener=listener, should_stop=should_stop)
    document_or(as_json, report_document(report), lambda: _show(report))
    say_next("mimi-edge", "export", folder)


def _config(asked: AskedConfig, run: Path | None, resume: Path | None) -> TrainingConfig:
    """What was asked for now, or when the run that is gone on with was started."""
    from mimi_edge.training.config import read_config

    if resume is None:
        return asked.config()
    if given := asked.given + (["--run"] if run is not None else []):
        raise ConfigError(
            f"--resume goes on with the options that the run was started with; leave out {', '.join(given)}."
        )
    return read_config(resume)[0]


def free_folder(wished: Path) -> Path:
    """The folder of that name, or with the first number that is still free."""
    folder, number = wished, 2
    while folder.exists():
        folder, number = wished.with_name(f"{wished.name}-{number}"), number + 1
    return folder


@contextmanager
def _saying_how_to_go_on(folder: Path, listener: Listener) -> Iterator[None]:
    """After a second Ctrl-C or a full disk; a run that stopped as it was asked to says it by itself."""
    from mimi_edge.training.config import CONFIG_FILE

    try:
        yield
    except (KeyboardInterrupt, OSError):
        if (folder / CONFIG_FILE).is_file():
            listener(Note(f"Go on from where it was saved: mimi-edge train --resume {shlex.quote(str(folder))}"))
        raise


def _show(report: TrainingReport) -> None:
    final = report.neurons[-1]
    rows = [(site, *(neurons[site] for neurons in report.neurons)) for site in final]
    trainings = [str(number + 1) for number in range(len(report.neurons))]
    totals = ("all sites", *(sum(neurons.values()) for neurons in report.neurons))
    show_table("Neurons per site, by training", ("site", *trainings), [*rows, totals])
    show_facts(f"Task {report.task_file.stem}", _facts(report))


def _facts(report: TrainingReport) -> dict[str, str]:
    facts = {
        "task file": str(report.task_file),
        "size": f"{report.cost.size_bytes:,} bytes",
        "forward pass": f"{report.cost.flops / 1e9:.5g} GFLOPs",
    }
    limit, flops = report.budget["size_bytes"], report.budget["flops"]
    if limit is not None:
        facts["left of the budget"] = f"{limit - report.cost.size_bytes:,} of {limit:,} bytes"
    if flops is not None:
        facts["left of the GFLOPs"] = f"{(flops - report.cost.flops) / 1e9:.5g} of {flops / 1e9:.5g}"
    if report.next_neuron is not None:
        neuron, cost = report.next_neuron
        facts["with the next neuron"] = f"{cost.size_bytes:,} bytes, {cost.flops / 1e9:.5g} GFLOPs ({neuron.site})"
    for split, value in report.accuracy.items():
        facts[f"{split} accuracy"] = f"{value.accuracy:.2%} of {value.images} images, of the stored weights"
    facts["empty sites"] = f"{sum(not count for count in report.neurons[-1].values())} of {len(report.neurons[-1])}"
    facts["blocks before the first adapter"] = str(report.frozen_blocks)
    facts["took"] = f"{report.seconds:.0f} s"
    return facts
