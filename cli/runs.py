"""`mimi-edge runs`: what was trained here, and how it compares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mimi_edge.cli.defaults import FIRST, RUNS, is_run, runs_in, say_next
from mimi_edge.cli.options import AsJson
from mimi_edge.cli.output import document_or, explained, say, show_table
from mimi_edge.durations import duration
from mimi_edge.errors import ConfigError
from mimi_edge.images.image_size import ImageSize, document_of_size
from mimi_edge.profiles.rendering.table import Table
from mimi_edge.texts import safe_line

if TYPE_CHECKING:
    from mimi_edge.training.run_folders import Run

NANOSECONDS = GIGA = 1e9
MOST_SHOWN = 50


@explained
def command(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(help="A folder that holds runs; or runs, to compare them.", show_default="runs/"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the runs of a folder, newest first: method, backbone, bytes, accuracy, time, and which are not finished.

    Given runs instead, it puts them side by side: the settings that differ, bytes, accuracy and time.
    """
    given = paths or [RUNS]
    if all(map(is_run, given)):
        _compare(given, as_json=as_json)
    elif len(given) == 1:
        _list(given[0], as_json=as_json)
    else:
        raise ConfigError(_neither(given))


def _list(folder: Path, *, as_json: bool) -> None:
    runs = runs_in(folder)
    documents = [_document(run) for run in runs]
    document_or(as_json, {"runs": documents}, lambda: _show(folder, documents))
    if unfinished := [run for run in runs if not run.is_finished]:
        say_next("mimi-edge", "train", "--resume", unfinished[0].folder)


def _neither(given: Sequence[Path]) -> str:
    no_runs = ", ".join(safe_line(path) for path in given if not is_run(path))
    return f"Give one folder that holds runs, or runs to compare; got {len(given)}, of which these are none: {no_runs}."


def _compare(given: Sequence[Path], *, as_json: bool) -> None:
    """Puts runs side by side, in the order in which they were given."""
    from mimi_edge.training.option_values import option_values
    from mimi_edge.training.run_folders import open_run

    runs = [open_run(path) for path in given]
    values = [option_values(run.config) for run in runs]
    names = dict.fromkeys(name for one in values for name in one)
    differing = {name: found for name in names if _differ(found := [one.get(name) for one in values])}
    documents = [_document(run) for run in runs]
    document_or(
        as_json, {"runs": documents, "settings_that_differ": differing}, lambda: _show_compared(documents, differing)
    )


def _differ(values: Sequence[Any]) -> bool:
    return any(value != values[0] for value in values)


def _show_compared(documents: Sequence[dict[str, Any]], differing: dict[str, list[Any]]) -> None:
    rows = [(f"--{name}", *map(_in_words, values)) for name, values in differing.items()]
    rows += [
        ("bytes", *(_bytes(one) for one in documents)),
        ("GFLOPs", *("" if one["flops"] is None else f"{one['flops'] / GIGA:.5g}" for one in documents)),
        ("val accuracy", *(_share(one, "val") for one in documents)),
        ("test accuracy", *(_share(one, "test") for one in documents)),
        ("took", *map(_took, documents)),
    ]
    show_table(Table.of("Runs side by side", ("", *_names(documents)), rows))
    say("All other settings are the same." if differing else "Their settings are the same.")


def _names(documents: Sequence[dict[str, Any]]) -> list[str]:
    """The last parts of their paths, which are enough where they differ."""
    paths = [one["run"] for one in documents]
    short = [Path(path).name for path in paths]
    return short if len(set(short)) == len(short) else paths


def _in_words(value: Any) -> str:
    """What an option was set to."""
    if isinstance(value, bool):
        return ("no", "yes")[value]
    if isinstance(value, list):
        return ",".join(map(_in_words, value))
    return "" if value is None else f"{value:.10g}" if isinstance(value, float) else str(value)


def _bytes(one: dict[str, Any]) -> str:
    return "" if one["size_bytes"] is None else f"{one['size_bytes']:,}"


def _took(one: dict[str, Any]) -> str:
    return "not finished" if one["seconds"] is None else duration(one["seconds"])


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
        "image_size": document_of_size(config.image_size),
        "data": config.data,
        "budget": {"size_bytes": budget.size_bytes, "flops": budget.flops},
        "size_bytes": None if report is None else report.cost.size_bytes,
        "flops": None if report is None else report.cost.flops,
        "accuracy": {} if report is None else {name: one.accuracy for name, one in report.accuracy.items()},
        "seconds": None if report is None else round(report.seconds, 1),
        "seed": config.seed,
        "rounds": [] if report is None else [asdict(point) for point in report.rounds],
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
            _bytes(one),
            _share(one, "val"),
            _share(one, "test"),
            _took(one),
        )
        for one in documents[:MOST_SHOWN]
    ]
    many = "" if len(documents) == 1 else "s"
    show_table(Table.of(f"{len(documents)} run{many} in {folder}", columns, rows))
    if len(documents) > MOST_SHOWN:
        say(f"The other {len(documents) - MOST_SHOWN} are told with --json.")


def _backbone(one: dict[str, Any]) -> str:
    size = one["image_size"]
    return str(one["backbone"]) if size is None else f"{one['backbone']} at {ImageSize.from_document(size)}"


def _share(one: dict[str, Any], split: str) -> str:
    found = one["accuracy"].get(split)
    return "" if found is None else f"{found:.2%}"
