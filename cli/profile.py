"""`mimi-edge profile`: what packages, tasks, graphs and engines cost, measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mimi_edge.choices import Backend
from mimi_edge.cli.defaults import say_next
from mimi_edge.cli.options import AsJson, Tasks, Threads, whole_numbers
from mimi_edge.cli.output import document_or, explained, fail, say
from mimi_edge.cli.progress import watching
from mimi_edge.errors import MimiEdgeError

if TYPE_CHECKING:
    from mimi_edge.profiles.devices.device import Device
    from mimi_edge.profiles.reports import Report


@explained
def command(
    sources: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="SOURCE",
            help="Packages, task files (.safetensors), graphs (.onnx) and engines (.engine), measured side by side.",
            show_default="package/, with the test splits of its runs in runs/",
        ),
    ] = None,
    task: Tasks = None,
    run: Annotated[
        list[Path] | None,
        typer.Option("--run", help="Run folder of a task: its test split gives the accuracy.", show_default=False),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Where the images of the one task are, without a run.", show_default=False)
    ] = None,
    backend: Annotated[
        Backend | None,
        typer.Option(
            "--backend",
            help="What runs packages, tasks and graphs; engines bring their own.",
            show_default="ort-cpu; without a SOURCE, the package's engines if they run here",
        ),
    ] = None,
    batch: Annotated[str, typer.Option(help="Images at a time, such as 1,8.")] = "1",
    rounds: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Samples of each artefact and batch.",
            show_default="100, for each process of something fast",
        ),
    ] = None,
    processes: Annotated[
        int,
        typer.Option(
            min=1,
            help="Processes of each artefact, fewer where memory is short: one is faster or slower than the next, and "
            "several tell how much.",
        ),
    ] = 3,
    power: Annotated[bool, typer.Option("--power", help="Measure joules per image, too: some seconds more each.")] = (
        False
    ),
    report: Annotated[
        list[Path] | None,
        typer.Option(
            "--report", help="Also write the report: .json has every sample, .csv, .md, .html.", show_default=False
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(help="Set what this device's data sheet promises beside it; see devices.", show_default=False),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="The backbone's weights, for torch.", show_default="those of the run, else pretrained"),
    ] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Measure engines that no package vouches for: engines are code.")
    ] = False,
    patience: Annotated[
        float, typer.Option(min=0.1, help="Seconds of silence after which a process is given up.")
    ] = 600.0,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Measure bytes, accuracy, latency, memory and energy of artefacts, each in processes of its own, in turns."""
    from mimi_edge.cli.measured import show_report
    from mimi_edge.cli.profiled import profiled
    from mimi_edge.profiles.plan import Plan
    from mimi_edge.profiles.profiler import profile_sources
    from mimi_edge.profiles.rendering.formats import check_reports, write_reports
    from mimi_edge.profiles.report_documents import report_document
    from mimi_edge.profiles.runtimes.artefact import Wanted

    batches, beside = whole_numbers(batch, "--batch", "1,8"), _device(device)
    plan = Plan(batches, rounds, power=power, device=beside, processes=processes, patience_s=patience)
    check_reports(report or [])
    chosen = profiled(sources or [], run or [], backend=backend, data=data, tasks=task or None)
    with watching() as listener:
        wanted = Wanted(
            backend=chosen.backend,
            tasks=tuple(dict.fromkeys(task)) if task else None,
            threads=threads,
            trust=trust,
            weights=weights,
            listener=listener,
        )
        measured = profile_sources(chosen.sources, wanted, plan, runs=chosen.runs, data=data)
    unwritten = write_reports(measured, report or [])
    for path in report or ():
        if path not in unwritten:
            say(f"Report: {path}")
    document_or(as_json, report_document(measured), lambda: show_report(measured, chosen.sources))
    _end(measured, unwritten)
    _say_next([source for source in chosen.sources if source.is_dir()], report or [])


def _say_next(packages: Sequence[Path], reports: Sequence[Path]) -> None:
    """What many such tasks would take, with the memory that was measured where a report has it."""
    measured = [part for path in reports if path.suffix == ".json" for part in ("--report", path)]
    if packages:
        say_next("mimi-edge", "ledger", packages[0], *measured[:2])


def _end(measured: Report, unwritten: Mapping[Path, str]) -> None:
    """With exit code 1 where something failed; all the rest was shown before."""
    said = []
    if measured.failed:
        said = [f"{len(measured.failed)} of {len(measured.artefacts)} could not be measured to the end:"]
        said += [f"  {one.name} ({one.failure.stage}): {one.failure.message}" for one in measured.failed if one.failure]
    if unwritten:
        said += ["These reports could not be written; what was measured is shown above:"]
        said += [f"  {path}: {why}" for path, why in unwritten.items()]
    if said:
        fail("\n".join(said), MimiEdgeError.exit_code)


def _device(name: str | None) -> Device | None:
    if name is None:
        return None
    from mimi_edge.profiles.devices.catalogue import all_devices, find_device

    return find_device(name, all_devices().values())
