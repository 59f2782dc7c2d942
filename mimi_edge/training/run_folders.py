"""The folder of a run, opened: its configuration, its split and its task, each read at most once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mimi_edge.sites import Neurons
from mimi_edge.tasks.files import TaskFile, open_task
from mimi_edge.training.config import CONFIG_FILE, TASK_SUFFIX, TrainingConfig, read_config, read_split


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
    def is_finished(self) -> bool:
        """Whether its task is there."""
        return self.task_path.is_file()

    @cached_property
    def split(self) -> dict[str, Any]:
        """Which image is in which split, as it was written down.

        Raises:
            ConfigError: that is not there, or damaged.
        """
        return read_split(self.folder)

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
