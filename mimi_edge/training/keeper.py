"""Saves a run while it goes on, and ends it when somebody asks for that."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from pathlib import Path

import torch

from mimi_edge.errors import StoppedError
from mimi_edge.training.checkpoints import save_checkpoint
from mimi_edge.training.config import CHECKPOINT_FILE, KEPT_FILE
from mimi_edge.training.edited_model import EditedModel
from mimi_edge.training.loop import Progress

Clock = Callable[[], float]
"""Seconds since some moment; `time.monotonic`, or one that tests turn."""


class Keeper:
    """Saves the run from time to time, and when somebody asks it to stop; knows how long all of it took.

    Args:
        folder: of the run.
        should_stop: asked after each step.
        every_seconds: how much work may be lost when the process is killed.
        started: when the first sitting would have begun without breaks, on the clock.
        clock: that it goes by.
    """

    def __init__(
        self,
        folder: Path,
        should_stop: Callable[[], bool],
        every_seconds: float,
        started: float,
        clock: Clock = time.monotonic,
    ) -> None:
        self._path, self._folder = folder / CHECKPOINT_FILE, folder
        self._should_stop, self._every_seconds = should_stop, every_seconds
        self._saved, self._started, self._clock = clock(), started, clock

    @property
    def seconds(self) -> float:
        """Of all sittings until now."""
        return self._clock() - self._started

    def after_step(self, model: EditedModel, optimizer: torch.optim.AdamW, progress: Progress) -> None:
        """Saves when it is time to.

        Raises:
            StoppedError: somebody asked to stop; it is saved.
        """
        stopping = self._should_stop()
        if stopping or self._clock() - self._saved >= self._every_seconds:
            self.save(model, optimizer, progress)
        if stopping:
            folder = shlex.quote(str(self._folder))
            raise StoppedError(f"Nothing is lost; go on with: mimi-edge train --resume {folder}")

    def keep(self, model: EditedModel, optimizer: torch.optim.AdamW, progress: Progress) -> None:
        """Writes the task that a later one may fall behind."""
        progress.seconds = self.seconds
        save_checkpoint(self._folder / KEPT_FILE, model, optimizer, progress)

    def save(self, model: EditedModel, optimizer: torch.optim.AdamW, progress: Progress) -> None:
        """Writes the checkpoint."""
        progress.seconds = self.seconds
        save_checkpoint(self._path, model, optimizer, progress)
        self._saved = self._clock()
