"""`mimi-edge export --embed`: one ONNX file a task, with everything inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimi_edge.cli.defaults import say_next
from mimi_edge.cli.formats.onnx import Making
from mimi_edge.cli.output import document_or, show_table
from mimi_edge.cli.progress import watching
from mimi_edge.errors import ConfigError
from mimi_edge.events import Advance
from mimi_edge.profiles.rendering.table import Table

if TYPE_CHECKING:
    from mimi_edge.export.one_file import Embedded

STAGE = "write one file a task"
GRAPH_SUFFIX = ".onnx"


def export(
    sources: Sequence[Path], output: Path | None, making: Making, *, tasks: Sequence[str] | None, as_json: bool
) -> None:
    """Writes a file for each task, held against the task's own graph; says what was found.

    Args:
        sources: one package; run folders and task files are put into one first; none is the run finished last.
        output: the file of the one task, or a folder for one named after each; None is the folder here.
        making: how tasks become a package; its threads are those of ONNX Runtime, which compares.
        tasks: names of those to export; those that were given by default.
        as_json: print JSON.

    Raises:
        ConfigError: several packages were given, or one file's name for several tasks.
    """
    from mimi_edge.cli.formats.targets import only_target
    from mimi_edge.export.one_file import embed
    from mimi_edge.export.open_packages import opened_package

    target = only_target(sources, making, as_json=as_json)
    names = [target.package.task(name).name for name in dict.fromkeys(tasks or target.tasks or target.package.tasks)]
    places = _places(output, names)
    made: dict[str, Embedded] = {}
    with watching() as listener, opened_package(target.package.folder, names) as package:
        for name in names:
            listener(Advance(STAGE, len(made), len(names), {"task": name}))
            made[name] = embed(package.task(name).graph, places[name], threads=making.threads)
        listener(Advance(STAGE, len(made), len(names)))
    document_or(as_json, {"files": {name: _document(one) for name, one in made.items()}}, lambda: _show(made))
    say_next("mimi-edge", "predict", next(iter(made.values())).path, "photo.jpg")


def _places(output: Path | None, tasks: Sequence[str]) -> dict[str, Path]:
    """Where each task's file goes.

    Raises:
        ConfigError: there is one name for several, or there are no tasks.
    """
    if not tasks:
        raise ConfigError("The package has no task to export.")
    if output is None or output.suffix != GRAPH_SUFFIX or output.is_dir():
        return {name: (output or Path()) / f"{name}{GRAPH_SUFFIX}" for name in tasks}
    if len(tasks) > 1:
        raise ConfigError(
            f"{output} is one file, and there are {len(tasks)} tasks: {', '.join(tasks)}. Choose one with --task, or "
            "give --output a folder."
        )
    return {tasks[0]: output}


def _document(one: Embedded) -> dict[str, Any]:
    return {"file": str(one.path), "size_bytes": one.size_bytes, "check": asdict(one.check)}


def _show(made: Mapping[str, Embedded]) -> None:
    rows = [
        (
            name,
            str(one.path),
            f"{one.size_bytes:,}",
            f"{one.check.same_top1}/{one.check.images} same top-1, within {one.check.largest_difference:.1e}",
        )
        for name, one in made.items()
    ]
    show_table(
        Table.of("Pixels in, probabilities out", ("task", "file", "bytes", "against the task's own graph"), rows)
    )
