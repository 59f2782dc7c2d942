"""`mimi-edge profile`: what a package costs, measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mimi_edge.choices import Backend
from mimi_edge.cli.options import AsJson, OnnxBackend, Threads
from mimi_edge.cli.output import document_or, explained, say, show_facts, show_table
from mimi_edge.cli.watching import watching
from mimi_edge.errors import ConfigError
from mimi_edge.events import Listener

if TYPE_CHECKING:
    from mimi_edge.export.packages import Package
    from mimi_edge.images.dataset import DecodedSplit
    from mimi_edge.profiles.first_reports import GraphLatency, ProfileReport, TaskProfile


@explained
def command(
    package: Annotated[Path, typer.Argument(help="A package from mimi-edge export.", show_default=False)],
    task: Annotated[
        list[str] | None,
        typer.Option("--task", help="A task of the package; may be repeated.", show_default="all"),
    ] = None,
    run: Annotated[
        list[Path] | None,
        typer.Option(
            "--run", help="Run folder of a task: its test split gives the graph's accuracy.", show_default=False
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Where the images of the one task are, without a run.", show_default=False)
    ] = None,
    batch: Annotated[str, typer.Option(help="Images at a time, such as 1,8.")] = "1",
    rounds: Annotated[int, typer.Option(min=1, help="Samples of each graph and batch.")] = 100,
    report: Annotated[
        Path | None, typer.Option(help="Also write the whole report, every sample in it, as JSON.", show_default=False)
    ] = None,
    backend: OnnxBackend = Backend.ORT_CPU,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Measure a package in ONNX Runtime: bytes, accuracy, and latency of bare backbone and tasks in turn."""
    import json

    from mimi_edge.export.packages import read_package
    from mimi_edge.files import write_whole
    from mimi_edge.profiles.first_reports import profile_package, report_document

    batches = _batches(batch)
    opened = read_package(package)
    with watching() as listener:
        splits = _splits(opened, task or None, run or [], data, listener)
        measured = profile_package(
            opened,
            tasks=task or None,
            batches=batches,
            rounds=rounds,
            splits=splits,
            threads=threads,
            backend=backend,
            listener=listener,
        )
    document = report_document(measured)
    if report is not None:
        write_whole(report, (json.dumps(document, ensure_ascii=False) + "\n").encode())
        say(f"Report: {report}")
    document_or(as_json, document, lambda: _show(opened, measured))


def _batches(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(f"--batch takes whole numbers separated by commas, such as 1,8; got {text!r}.") from error


def _splits(
    package: Package, tasks: list[str] | None, runs: list[Path], data: str | None, listener: Listener
) -> dict[str, DecodedSplit]:
    """The test splits of the tasks whose images are known, by name."""
    from mimi_edge.cli.tasks import decoded_split, given_of_package

    given = given_of_package(package, tasks or (), runs, data)
    splits = {name: decoded_split(found, data, listener) for name, found in given.items()}
    return {name: split for name, split in splits.items() if split is not None}


def _show(package: Package, report: ProfileReport) -> None:
    names = [task.name for task in report.tasks]
    sites = list(report.tasks[0].neurons)
    rows = [(site, *(task.neurons[site] for task in report.tasks)) for site in sites]
    totals = ("all sites", *(sum(task.neurons.values()) for task in report.tasks))
    show_table("Neurons per site", ("site", *names), [*rows, totals])
    _show_latencies(report)
    _show_closing(package, report)


def _show_latencies(report: ProfileReport) -> None:
    rows = []
    for latency in report.latencies:
        summary, ratio = latency.summary, latency.ratio
        rows.append(
            (
                "bare backbone" if latency.task is None else latency.task,
                latency.batch,
                f"{summary.p50_ms:.3f}",
                f"{summary.p90_ms:.3f}",
                f"{summary.p99_ms:.3f}",
                "1" if ratio is None else f"{ratio.value:.3f}",
                "" if ratio is None else f"{ratio.low:.3f} to {ratio.high:.3f}",
            )
        )
    count = report.latencies[0].summary.count
    title = f"Latency in ONNX Runtime, CPU: {count} samples each, in turn; ratio of p50 to the bare one"
    show_table(title, ("graph", "batch", "p50 ms", "p90 ms", "p99 ms", "ratio", "95 % interval"), rows)


def _show_closing(package: Package, report: ProfileReport) -> None:
    for task in report.tasks:
        batch = report.latencies[0].batch
        bare, merged = report.latency(None, batch), report.latency(task.name, batch)
        assert merged.ratio is not None  # noqa: S101  (only the backbone has none)
        stored = task.stored_accuracy.get("test")
        show_facts(
            f"Task {task.name} on {package.backbone.name}",
            {
                "task file": f"{task.storage.task_file_bytes:,} bytes",
                "backbone, shared by all tasks": f"{report.storage.backbone_bytes:,} bytes",
                "neurons": f"{sum(task.neurons.values())} at {sum(map(bool, task.neurons.values()))} of "
                f"{len(task.neurons)} sites",
                "test accuracy, task file": "not known" if stored is None else f"{stored.accuracy:.2%}",
                "test accuracy, exported graph": _graph_accuracy(package, task),
                "p50 / p90 / p99, bare backbone": _percentiles(bare),
                "p50 / p90 / p99, merged graph": _percentiles(merged),
                "merged / bare, ratio of p50": f"{merged.ratio.value:.3f} "
                f"({merged.ratio.confidence:.0%} interval {merged.ratio.low:.3f} to {merged.ratio.high:.3f})",
            },
        )


def _percentiles(latency: GraphLatency) -> str:
    summary = latency.summary
    return f"{summary.p50_ms:.3f} / {summary.p90_ms:.3f} / {summary.p99_ms:.3f} ms, batch {latency.batch}"


def _graph_accuracy(package: Package, task: TaskProfile) -> str:
    if task.graph_accuracy is not None:
        return f"{task.graph_accuracy.accuracy:.2%} of {task.graph_accuracy.images} images, measured now"
    check = package.tasks[task.name].check.get("accuracy")
    if isinstance(check, dict):
        return f"{check['accuracy']:.2%} of {check['images']} images, measured at export"
    return "not measured (give --run or --data)"
