"""The folder of a run, opened: its configuration, its split and its task, each read at most once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mimi_edge.errors import MimiEdgeError
from mimi_edge.events import Listener, Note, silent
from mimi_edge.images.sources.names import is_named
from mimi_edge.sites import Neurons
from mimi_edge.tasks.files import TaskFile, open_task
from mimi_edge.training.config import ANSWERS_FILE, CONFIG_FILE, TASK_SUFFIX, TrainingConfig, read_config, read_split
from mimi_edge.training.recorded_answers import RecordedAnswers, read_answers


@dataclass(frozen=True, eq=False)
class Run:
    """A folder that `train` made, or is making.

    Attributes:
        folder: of the run.
        config: what it was asked to do.
        start: neurons that it was told to start with, if any.
    """

    folder: Path
    config: TrainingConfig
    start: Neurons | None = None

    @property
    def task_path(self) -> Path:
        """Where its task is, once it is finished."""
        return self.folder / (self.config.name + TASK_SUFFIX)

    @property
    def name(self) -> str:
        """Of its task."""
        return self.config.name

    @property
    def is_finished(self) -> bool:
        """Whether its task is there."""
        return self.task_path.is_file()

    @property
    def finished_ns(self) -> int | None:
        """When its task file was written, in nanoseconds since 1970; None while there is none."""
        try:
            return self.task_path.stat().st_mtime_ns
        except OSError:
            return None

    def missing_images(self) -> str | None:
        """The folder or table that its images were found by, if it is gone."""
        data = self.config.data
        return None if is_named(data) or Path(data).exists() else data

    @cached_property
    def split(self) -> dict[str, Any]:
        """Which image is in which split, as it was written down.

        Raises:
            ConfigError: that is not there, or damaged.
        """
        return read_split(self.folder)

    @cached_property
    def answers(self) -> RecordedAnswers | None:
        """What torch answered with its task; None where that was not recorded, or was of another task."""
        recorded = read_answers(self.folder / ANSWERS_FILE)
        return recorded if recorded is not None and recorded.task_sha256 == self.task.sha256 else None

    @cached_property
    def task(self) -> TaskFile:
        """What came out of it.

        Raises:
            ArtifactError: the task file is not there, or damaged.
        """
        return open_task(self.task_path)


def is_run(folder: Path) -> bool:
    """Whether a path is a folder with a run's configuration."""
    return (folder / CONFIG_FILE).is_file()


def open_run(folder: Path) -> Run:
    """Opens the folder of a run, finished or not.

    Raises:
        ConfigError: the folder holds no run.
    """
    return Run(folder, *read_config(folder))


def runs_in(folder: Path, listener: Listener = silent) -> tuple[Run, ...]:
    """All runs in a folder, the newest finished one first and those that are not finished last.

    Args:
        folder: that holds folders of runs; there need not be one.
        listener: hears of those that are left out, because their configuration cannot be read.
    """
    found = []
    for place in sorted(folder.iterdir()) if folder.is_dir() else ():
        try:
            found += [open_run(place)] if is_run(place) else []
        except MimiEdgeError as error:
            reason = str(error).splitlines()[0]
            listener(Note(f"Left aside, as it cannot be read: {place} ({reason})"))
    return tuple(sorted(found, key=lambda run: (-(run.finished_ns or 0), str(run.folder))))
