"""The neurons, the curve and the confusion matrix of a run, as pictures and as a table, in its folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from mimi_edge.charts import draw_neurons_per_site
from mimi_edge.confusion import Confusion
from mimi_edge.errors import MimiEdgeError
from mimi_edge.events import Listener, Note
from mimi_edge.files import write_whole
from mimi_edge.sites import Neurons, Site
from mimi_edge.training.config import CHART_FILE, CONFUSION_CHART_FILE, CONFUSION_FILE, CURVE_FILE, TrainingConfig
from mimi_edge.training.round_files import RoundPoint

SPLIT = "test"
"""Whose images are told apart pair by pair."""


def draw_neurons(
    neurons: Sequence[Neurons], sites: Sequence[Site], folder: Path, task: str, listener: Listener
) -> None:
    """Draws the neurons of each site, before the first pruning and after each.

    Raises:
        OSError: it cannot be written.
    """
    title = f"{task}: neurons per site"
    _drawn("neurons", lambda: draw_neurons_per_site(neurons, sites, folder / CHART_FILE, title), listener)


def write_confusion(matrix: Confusion, folder: Path, task: str, listener: Listener) -> None:
    """Writes the matrix as a table, and draws it.

    Raises:
        OSError: something cannot be written.
    """
    from mimi_edge.charts.confusion import draw_confusion

    write_whole(folder / CONFUSION_FILE, matrix.csv_text().encode("utf-8"))
    title = f"{task}: what {SPLIT} images are taken for"
    _drawn("confusion", lambda: draw_confusion(matrix, folder / CONFUSION_CHART_FILE, title), listener)


def draw_rounds(
    points: Sequence[RoundPoint], taken: int, folder: Path, config: TrainingConfig, listener: Listener
) -> None:
    """Draws accuracy against bytes, a point for each task that was kept.

    Raises:
        OSError: it cannot be written.
    """
    from mimi_edge.charts.curve import CurvePoint, draw_curve

    if not points:
        return
    curve = [CurvePoint(one.round, one.size_bytes, one.accuracy) for one in points]
    title, budget = f"{config.name}: accuracy against bytes", config.budget.size_bytes
    _drawn("curve", lambda: draw_curve(curve, taken, folder / CURVE_FILE, title, budget), listener)


def _drawn(what: str, draw: Callable[[], None], listener: Listener) -> None:
    try:
        draw()
    except MimiEdgeError as error:
        listener(Note(f"No picture of the {what}: {error}"))
