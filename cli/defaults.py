"""What a command takes when it is told nothing: the newest finished run in `runs/`, the package `package/`."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mimi_edge.builtin import DATA_PREFIX
from mimi_edge.cli.output import say
from mimi_edge.errors import ConfigError, MimiEdgeError

if TYPE_CHECKING:
    from mimi_edge.export.packages import Package

RUNS = Path("runs")
PACKAGE = Path("package")
MANIFEST = "manifest.json"
RUN_CONFIG = "config.json"
TASK_SUFFIX = ".safetensors"
FIRST = "mimi-edge train --budget-mb 0.5"


@dataclass(frozen=True)
class FoundRun:
    """A folder that `train` made, or is making.

    Attributes:
        folder: of the run.
        task: its name.
        data: where its images were.
        finished_ns: when its task file was written, in nanoseconds since 1970; None while there is none.
    """

    folder: Path
    task: str
    data: str
    finished_ns: int | None

    @property
    def task_file(self) -> Path:
        """Where its task is, once it is finished."""
        return self.folder / (self.task + TASK_SUFFIX)

    def missing_images(self) -> str | None:
        """The folder that its images were in, if it is gone."""
        return None if self.data.startswith(DATA_PREFIX) or Path(self.data).is_dir() else self.data


def runs_in(folder: Path = RUNS) -> tuple[FoundRun, ...]:
    """All runs of a folder, the newest finished one first and those that are not finished last.

    A folder whose configuration cannot be read is no run that could be taken, and is left out.
    """
    found = [run for place in _folders(folder) if (run := _found(place)) is not None]
    return tuple(sorted(found, key=lambda run: (-(run.finished_ns or 0), str(run.folder))))


def newest_run(folder: Path = RUNS) -> Path:
    """The run that was finished last; says on stderr which one that is, and which are not finished.

    Raises:
        ConfigError: there is none; the message says what to run first.
    """
    runs = runs_in(folder)
    finished = [run for run in runs if run.finished_ns is not None]
    unfinished = [run for run in runs if run.finished_ns is None]
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
        has_run = any(run.finished_ns is not None for run in runs_in())
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
    return (folder / MANIFEST).is_file()


def is_run(folder: Path) -> bool:
    """Whether a path is a folder with a run's configuration."""
    return (folder / RUN_CONFIG).is_file()


def runs_at_hand(package: Package, folder: Path = RUNS) -> dict[str, Path]:
    """The finished runs that made tasks of a package, byte for byte, and whose images are still there; by task."""
    found: dict[str, Path] = {}
    for run in runs_in(folder):
        if run.task not in found and run.finished_ns is not None and holds(package, run.task, run.task_file):
            if (images := run.missing_images()) is not None:
                say(f"The images of {run.folder} are no longer in {images}, so nothing is measured on them.")
                continue
            found[run.task] = run.folder
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


def _folders(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from (place for place in sorted(folder.iterdir()) if is_run(place))


def _found(folder: Path) -> FoundRun | None:
    from mimi_edge.training.config import read_config

    try:
        config, _ = read_config(folder)
    except MimiEdgeError as error:
        say(f"Left aside, as it cannot be read: {folder} ({str(error).splitlines()[0]})")
        return None
    task_file = folder / (config.name + TASK_SUFFIX)
    return FoundRun(folder, config.name, config.data, task_file.stat().st_mtime_ns if task_file.is_file() else None)


def _nothing_finished(folder: Path, unfinished: list[FoundRun]) -> str:
    if unfinished:
        going_on = "".join(f"\n  mimi-edge train --resume {shlex.quote(str(run.folder))}" for run in unfinished)
        return f"No run in {folder}/ is finished. Go on with one first:{going_on}"
    return f"There is no finished run in {folder}/ here. Train one first: {FIRST}; or name what to take."
