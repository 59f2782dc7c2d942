"""The tasks on the way of a run, as a table: each can be taken instead of the last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mimi_edge.cli.output import show_table
from mimi_edge.profiles.rendering.table import Table

if TYPE_CHECKING:
    from mimi_edge.training.round_files import RoundPoint


def show_rounds(points: Sequence[RoundPoint]) -> None:
    """Shows accuracy against bytes, a row for each training; nothing where no task was kept."""
    if not points:
        return
    splits = list(points[0].accuracy)
    columns = ("training", "neurons", "bytes", "GFLOPs", *(f"{split} accuracy" for split in splits), "task file")
    rows = [
        (
            point.round,
            f"{point.neurons:,}",
            f"{point.size_bytes:,}",
            f"{point.flops / 1e9:.4g}",
            *(f"{point.accuracy[split]:.2%}" for split in splits),
            point.file,
        )
        for point in points
    ]
    show_table(Table.of("Accuracy against bytes, by training", columns, rows))
