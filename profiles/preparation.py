"""How long it takes to make one image ready: read, fit, normalise, on one thread and apart from the network's time."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from mimi_edge.images.preprocessing import Preprocessing, fit, normalise
from mimi_edge.profiles.reports import Preparation

if TYPE_CHECKING:
    from PIL.Image import Image

    from mimi_edge.images.splits import Split

T = TypeVar("T")
IMAGES = 32
MADE_UP = (640, 480)
WARM_UP = 3


def preparation_of_split(split: Split, preprocessing: Preprocessing) -> Preparation:
    """Of some images of a split, read as training reads them; those that cannot be used are left out.

    Raises:
        UnusableImageError: none of them can be used.
    """
    from mimi_edge.images.read_image import UnusableImageError

    some = split.some(IMAGES)
    steps, last = [], None
    for index in [*range(min(WARM_UP, len(some))), *range(len(some))]:
        try:
            steps.append(_steps(partial(some.image, index), preprocessing))
        except UnusableImageError as error:
            last = error
    if not steps and last is not None:
        raise last
    return _preparation(f"{split.name} split", steps[-len(some) :])


def preparation_of_made_up(preprocessing: Preprocessing, seed: int = 0) -> Preparation:
    """Of a made-up JPEG file of 640 x 480 pixels, in memory, where no images are known."""
    from PIL import Image

    from mimi_edge.images.read_image import decoded_rgb

    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (MADE_UP[1] // 16, MADE_UP[0] // 16, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(coarse).resize(MADE_UP).save(file, "JPEG", quality=90)
    content, name = file.getvalue(), Path("made-up.jpg")
    steps = [_steps(lambda: decoded_rgb(content, name), preprocessing) for _ in range(WARM_UP + IMAGES)]
    return _preparation("made up", steps[WARM_UP:])


def _steps(read: Callable[[], Image], preprocessing: Preprocessing) -> tuple[int, int, int]:
    """Nanoseconds of reading, fitting and normalising one image."""
    image, read_ns = _timed(read)
    fitted, fit_ns = _timed(lambda: fit(image, preprocessing))
    _, normalise_ns = _timed(lambda: normalise(fitted[None], preprocessing))
    return read_ns, fit_ns, normalise_ns


def _timed(work: Callable[[], T]) -> tuple[T, int]:
    started = time.perf_counter_ns()
    done = work()
    return done, time.perf_counter_ns() - started


def _preparation(source: str, steps: list[tuple[int, int, int]]) -> Preparation:
    read_ns, fit_ns, normalise_ns = zip(*steps, strict=True)
    return Preparation(source, tuple(read_ns), tuple(fit_ns), tuple(normalise_ns))
