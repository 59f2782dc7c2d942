"""What a command takes when it is told nothing: the newest finished run in `runs/`, the package `package/`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from mimi_edge.cli.output import say
from mimi_edge.errors import ConfigError
from mimi_edge.events import Note

if TYPE_CHECKING:
    from mimi_edge.export.open_packages import Package
    from mimi_edge.training.run_folders import Run

RUNS = Path("runs")
PACKAGE = Path("package")
TASK_SUFFIX = ".safetensors"
FIRST = "mimi-edge train --budget-mb 0.5"


def runs_in(folder: Path = RUNS) -> tuple[Run, ...]:
    """All runs of a folder, as of `run_folders.runs_in`; says which cannot be read."""
    from mimi_edge.training import run_folders

    return run_folders.runs_in(folder, lambda event: say(event.text) if isinstance(event, Note) else None)


def newest_run(folder: Path = RUNS) -> Path:
    """The run that was finished last; says on stderr which one that is, and which are not finished.

    Raises:
        ConfigError: there is none; the message says what to run first.
    """
    runs = runs_in(folder)
    finished = [run for run in runs if run.is_finished]
    unfinished = [run for run in runs if not run.is_finished]
    if not finished:
        raise ConfigError(_nothing_finished(folder, unfinished))
    if unfinished:
        say(f"Not finished, so left aside: {', '.join(str(run.folder) for run in unfinished)}.")
    others = f", the newest of {len(finished)} finished runs" if len(finished) > 1 else ""
    say(f"Taking the run {finished[0].folder}{others}.")
    return finished[0].folder


def default_package(folder: Path = PACKAGE) -> Path:
    """The package `package/`; says on stderr that it was taken.

    Raises:
        ConfigError: there is none; the message says what to run first.
    """
    if not is_package(folder):
        has_run = any(run.is_finished for run in runs_in())
        first = "mimi-edge export" if has_run else f"{FIRST}, then mimi-edge export"
        raise ConfigError(f"There is no package in {folder}/ here. Make it first: {first}; or name a package.")
    say(f"Taking the package {folder}.")
    return folder


def package_or_default(given: Path | None) -> Path:
    """What was given, else the package `package/`.

    Raises:
        ConfigError: nothing was given, and there is none.
    """
    return default_package() if given is None else given


def is_package(folder: Path) -> bool:
    """Whether a path is a folder with a package's manifest."""
    from mimi_edge.export import manifest

    return manifest.is_package(folder)


def is_run(folder: Path) -> bool:
    """Whether a path is a folder with a run's configuration."""
    from mimi_edge.training import run_folders

    return run_folders.is_run(folder)


def runs_at_hand(package: Package, folder: Path = RUNS) -> dict[str, Path]:
    """The finished runs that made tasks of a package, byte for byte, and whose images are still there; by task."""
    found: dict[str, Path] = {}
    for run in runs_in(folder):
        if run.name not in found and run.is_finished and holds(package, run.name, run.task_path):
            if (images := run.missing_images()) is not None:
                say(f"The images of {run.folder} are no longer in {images}, so nothing is measured on them.")
                continue
            found[run.name] = run.folder
    return found


def holds(package: Package, task: str, task_file: Path) -> bool:
    """Whether a package has a task as its file is, byte for byte."""
    from mimi_edge.files import sha256_of

    packaged = package.tasks.get(task)
    if packaged is None or packaged.task_file.stat().st_size != task_file.stat().st_size:
        return False
    return sha256_of(packaged.task_file) == sha256_of(task_file)


def say_next(*command: str | Path) -> None:
    """Says on stderr, as a line to copy, what one would run next."""
    say(f"Next: {shlex.join(str(part) for part in command)}")


def _nothing_finished(folder: Path, unfinished: list[Run]) -> str:
    if unfinished:
        going_on = "".join(f"\n  mimi-edge train --resume {shlex.quote(str(run.folder))}" for run in unfinished)
        return f"No run in {folder}/ is finished. Go on with one first:{going_on}"
    return f"There is no finished run in {folder}/ here. Train one first: {FIRST}; or name what to take."
