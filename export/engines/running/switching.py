"""What runners of one engine for several tasks have in common: their tasks by name, one of which answers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from mimi_edge.errors import ArtifactError, ConfigError
from mimi_edge.export.engines.running.exchange import ImageRunner
from mimi_edge.export.engines.running.executor import Executor
from mimi_edge.export.graphs import LOGITS
from mimi_edge.tasks.stores import Floats


class SwitchedTask(Protocol):
    """A task as a runner keeps it."""

    @property
    def classes(self) -> int:
        """C, that the task has; the engine gives as many logits as the widest task needs."""


Kept = TypeVar("Kept", bound=SwitchedTask)


class SwitchedRunner(ImageRunner, Generic[Kept]):
    """An engine, and the tasks that it can be switched to. A context manager."""

    def __init__(self) -> None:
        """Has no task yet."""
        self._tasks: dict[str, Kept] = {}
        self._current: str | None = None

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks that can be used, in the order they came."""
        return tuple(self._tasks)

    @property
    def task(self) -> str | None:
        """The task in use."""
        return self._current

    def run_all(self, images: Floats) -> dict[str, Floats]:
        """Every output of the task in use, in float32; the logits cut to its own classes.

        Raises:
            ConfigError: no task is in use, or the images have another shape.
            MimiEdgeError: the device failed.
        """
        classes = self._in_use().classes
        outputs = self._outputs(images)
        return outputs | {LOGITS: np.ascontiguousarray(outputs[LOGITS][:, :classes])}

    @abstractmethod
    def _outputs(self, images: Floats) -> dict[str, Floats]:
        """Every output of the engine, as wide as it makes them."""

    def _in_use(self) -> Kept:
        """The task in use.

        Raises:
            ConfigError: there is none.
        """
        if self._current is None:
            names = ", ".join(self._tasks) or "add one"
            raise ConfigError(f"{self.executor.name} has no task in use. Say which: {names}.")
        return self._tasks[self._current]

    def _found(self, task: str) -> Kept:
        """The task of a name.

        Raises:
            ConfigError: it is not there.
        """
        if task not in self._tasks:
            raise not_resident(task, self._tasks)
        return self._tasks[task]

    def _forget(self, task: str) -> None:
        """Lets a task go that is there; it is no longer in use."""
        del self._tasks[task]
        if self._current == task:
            self._current = None


def check_classes(classes: int, executor: Executor, task: str) -> None:
    """Holds a task's number of classes against the engine's.

    Raises:
        ArtifactError: the engine has no room for them.
    """
    room = executor.port(LOGITS).largest[1]
    if not 1 <= classes <= room:
        raise ArtifactError(
            f"Task {task} has {classes} classes, {executor.name} has room for {room}. "
            "Export an engine with this task among those it is for."
        )


def not_resident(task: str, tasks: Mapping[str, Any]) -> ConfigError:
    """The error for a task that was not put on the device."""
    return ConfigError(f"Task {task} is not on the device; there are: {', '.join(tasks) or 'none'}. Add it first.")
