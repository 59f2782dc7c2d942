"""What became of each epoch, for programs and for TensorBoard: a line of `log.csv`, written when the epoch ends.

The checkpoint knows the epochs that count. What a killed process had logged beyond it is trained again, so a run that
is gone on with writes the log anew from the checkpoint first, and no line is there twice.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimi_edge.errors import ConfigError
from mimi_edge.events import Listener, Note, silent
from mimi_edge.files import write_whole
from mimi_edge.parts import TENSORBOARD, install_line
from mimi_edge.training.config import LOG_FILE, TENSORBOARD_FOLDER
from mimi_edge.training.loop import Progress

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

COLUMNS = ("round", "epoch", "step", "loss", "val_accuracy", "learning_rate", "seconds", "neurons", "bytes")
SCALARS = {
    "loss": "train/loss",
    "learning_rate": "train/learning_rate",
    "val_accuracy": "val/accuracy",
    "neurons": "task/neurons",
    "bytes": "task/bytes",
}
"""What TensorBoard shows, by column."""


def check_tensorboard() -> None:
    """Makes sure that files for TensorBoard can be written, before there is anything to write.

    Raises:
        ConfigError: its package is not installed.
    """
    if not _has_tensorboard():
        raise ConfigError(
            "--tensorboard needs the package tensorboard, which is not installed here. Install it: "
            f"{install_line(TENSORBOARD)} ; or leave --tensorboard out: {LOG_FILE} in the run folder says the same."
        )


def _has_tensorboard() -> bool:
    return find_spec("tensorboard") is not None


class EpochLog:
    """The log of a run that is under way.

    Args:
        folder: of the run.
        progress: what the run goes on from.
        tensorboard: whether to write its files as well.
        listener: hears when there is no room for it; a run does not end for that, as nothing is lost: what is missing
            is written with the next line that fits, or when the run is gone on with.
    """

    def __init__(
        self, folder: Path, progress: Progress, *, tensorboard: bool = False, listener: Listener = silent
    ) -> None:
        self._path, self._listener = folder / LOG_FILE, listener
        self._lacks_lines, self._said = True, False
        self._write(progress)
        self._writer = None
        if tensorboard and _has_tensorboard():
            self._writer = _writer(folder / TENSORBOARD_FOLDER, progress)
        elif tensorboard:  # a run that was begun elsewhere goes on all the same
            listener(Note(f"Nothing is written for TensorBoard, which is not installed: {install_line(TENSORBOARD)}"))

    def add(self, progress: Progress) -> None:
        """Writes down the epoch that has just ended."""
        self._write(progress)
        *_, row = _rows(progress)
        if self._writer is not None:
            for column, scalar in SCALARS.items():
                if row[column] is not None:
                    self._writer.add_scalar(scalar, row[column], row["step"])
            self._writer.flush()

    def _write(self, progress: Progress) -> None:
        """Adds the last line, or writes all where some may be missing."""
        try:
            if self._lacks_lines:
                header = dict(zip(COLUMNS, COLUMNS, strict=True))
                write_whole(self._path, "".join(map(_csv_line, (header, *_rows(progress)))).encode())
            else:
                with self._path.open("a", encoding="utf-8") as log:
                    log.write(_csv_line(_rows(progress)[-1]))
            self._lacks_lines = False
        except OSError as error:
            self._lacks_lines = True
            if not self._said:
                self._listener(Note(f"{self._path} lacks lines for now: it cannot be written ({error.strerror})."))
            self._said = True

    def close(self) -> None:
        """Ends what TensorBoard reads."""
        if self._writer is not None:
            self._writer.close()


def _rows(progress: Progress) -> list[Mapping[str, Any]]:
    """By column, for each epoch; None where an earlier release began the run and did not write that down."""
    unknown = len(progress.history) - len(progress.epoch_seconds)
    seconds = [*(None for _ in range(unknown)), *(round(value, 3) for value in progress.epoch_seconds)]
    return [_row(entry, after) for entry, after in zip(progress.history, seconds, strict=True)]


def _row(entry: Mapping[str, float], seconds: float | None) -> Mapping[str, Any]:
    counted = {"round": int(entry["round"]) + 1, "epoch": int(entry["epoch"]) + 1}
    named = {"seconds": seconds, "bytes": entry.get("size_bytes")}
    return {column: counted.get(column, named.get(column, entry.get(column))) for column in COLUMNS}


def _csv_line(row: Mapping[str, Any]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow([row[column] for column in COLUMNS])
    return out.getvalue()


def _writer(folder: Path, progress: Progress) -> SummaryWriter:
    """Of event files; those of a run that is gone on with hide what was logged beyond the checkpoint."""
    from torch.utils.tensorboard import SummaryWriter

    step = int(progress.history[-1].get("step", 0)) + 1 if progress.history else None
    return SummaryWriter(str(folder), purge_step=step)
