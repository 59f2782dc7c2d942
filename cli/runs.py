"""`mimi-edge runs`: what was trained here, and how it compares."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mimi_edge.cli.defaults import FIRST, RUNS, runs_in, say_next
from mimi_edge.cli.options import AsJson
from mimi_edge.cli.output import document_or, explained, say, show_table
from mimi_edge.durations import duration
from mimi_edge.profiles.rendering.table import Table

if TYPE_CHECKING:
    from mimi_edge.training.run_folders import Run

NANOSECONDS = 1e9
MOST_SHOWN = 50


@explained
def command(
    folder: Annotated[Path, typer.Argument(help="Folder that holds the runs.", show_default="runs/")] = RUNS,
    as_json: AsJson = False,
) -> None:
    """List the runs of a folder, newest first: method, backbone, bytes, accuracy, time, and which are not finished."""
    runs = runs_in(folder)
    documents = [_document(run) for run in runs]
    document_or(as_json, {"runs": documents}, lambda: _show(folder, documents))
    if unfinished := [run for run in runs if not run.is_finished]:
        say_next("mimi-edge", "train", "--resume", unfinished[0].folder)


def _document(run: Run) -> dict[str, Any]:
    """What is known of a run; accuracy and bytes are None while it is not finished."""
    from mimi_edge.training.reports import finished_report

    report, config, ended = finished_report(run.folder, run.name), run.config, run.finished_ns
    budget = config.budget
    return {
        "run": str(run.folder),
        "task": run.name,
        "finished": None if ended is None else _when(ended),
        "method": config.method,
        "backbone": config.backbone,
        "image_size": config.image_size,
        "data": config.data,
        "budget": {"size_bytes": budget.size_bytes, "flops": budget.flops},
        "size_bytes": None if report is None else report.cost.size_bytes,
        "flops": None if report is None else report.cost.flops,
        "accuracy": {} if report is None else {name: one.accuracy for name, one in report.accuracy.items()},
        "seconds": None if report is None else round(report.seconds, 1),
        "seed": config.seed,
    }


def _when(nanoseconds: int) -> str:
    return datetime.fromtimestamp(nanoseconds / NANOSECONDS, timezone.utc).astimezone().isoformat(timespec="seconds")


def _show(folder: Path, documents: Sequence[dict[str, Any]]) -> None:
    if not documents:
        say(f"There is no run in {folder}/ here. Train one first: {FIRST}")
        return
    columns = ("run", "method", "backbone", "bytes", "val", "test", "took")
    rows = [
        (
            one["run"],
            one["method"],
            _backbone(one),
            "" if one["size_bytes"] is None else f"{one['size_bytes']:,}",
            _share(one, "val"),
            _share(one, "test"),
            "not finished" if one["seconds"] is None else duration(one["seconds"]),
        )
        for one in documents[:MOST_SHOWN]
    ]
    many = "" if len(documents) == 1 else "s"
    show_table(Table.of(f"{len(documents)} run{many} in {folder}", columns, rows))
    if len(documents) > MOST_SHOWN:
        say(f"The other {len(documents) - MOST_SHOWN} are told with --json.")


def _backbone(one: dict[str, Any]) -> str:
    size = one["image_size"]
    return str(one["backbone"]) if size is None else f"{one['backbone']} at {size}"


def _share(one: dict[str, Any], split: str) -> str:
    found = one["accuracy"].get(split)
    return "" if found is None else f"{found:.2%}"
