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
    if find_spec("tensorboard") is None:
        raise ConfigError(
            "--tensorboard needs the package tensorboard, which is not installed here. Install it: "
            f"{install_line(TENSORBOARD)} ; or leave --tensorboard out: log.csv in the run folder says the same."
        )


class EpochLog:
    """The log of a run that is under way.

    Args:
        folder: of the run.
        progress: what the run goes on from.
        tensorboard: whether to write its files as well.

    Raises:
        OSError: it cannot be written.
    """

    def __init__(self, folder: Path, progress: Progress, *, tensorboard: bool = False) -> None:
        self._path = folder / LOG_FILE
        lines = map(_csv_line, (dict(zip(COLUMNS, COLUMNS, strict=True)), *_rows(progress)))
        write_whole(self._path, "".join(lines).encode())
        self._writer = _writer(folder / TENSORBOARD_FOLDER, progress) if tensorboard else None

    def add(self, progress: Progress) -> None:
        """Writes down the epoch that has just ended.

        Raises:
            OSError: it cannot be written.
        """
        *_, row = _rows(progress)
        with self._path.open("a", encoding="utf-8") as log:
            log.write(_csv_line(row))
        if self._writer is not None:
            for column, scalar in SCALARS.items():
                if row[column] is not None:
                    self._writer.add_scalar(scalar, row[column], row["step"])
            self._writer.flush()

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
