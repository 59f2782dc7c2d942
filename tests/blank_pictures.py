"""Runs whose pictures are blank: drawing three is two thirds of what a run of a few steps takes.

For tests that are about something else. Runs that many tests share, made before the first of them, have drawn theirs.
"""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path

import pytest
from PIL import Image

from mimi_edge.charts import confusion, curve
from mimi_edge.files import write_whole
from mimi_edge.training import run_pictures


@cache
def _blank() -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (1, 1), "white").save(content, "PNG")
    return content.getvalue()


def _draw_nothing(*arguments: object) -> None:
    """Writes where a run's picture is to be, as drawing it does."""
    (path,) = [argument for argument in arguments if isinstance(argument, Path)]
    write_whole(path, _blank())


def draw_blank(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the pictures of runs blank."""
    monkeypatch.setattr(run_pictures, "draw_neurons_per_site", _draw_nothing)
    monkeypatch.setattr(confusion, "draw_confusion", _draw_nothing)
    monkeypatch.setattr(curve, "draw_curve", _draw_nothing)


def is_drawn(path: Path) -> bool:
    """Whether a picture is there, and is not blank."""
    with Image.open(path) as picture:
        return picture.format == "PNG" and len(picture.convert("L").getcolors(256) or ()) > 1
