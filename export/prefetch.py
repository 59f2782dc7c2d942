"""Images made ready by a few threads, ahead of whoever runs them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TypeVar

from mimi_edge.errors import ConfigError
from mimi_edge.images.fitted import usable_threads
from mimi_edge.images.preprocessing import Preprocessing, fit, normalise
from mimi_edge.images.read_image import read_rgb
from mimi_edge.tasks.stores import Floats

T = TypeVar("T")

Prepared = tuple[T, "Floats | ConfigError"]
"""An image, and what a backbone takes, float32 [1, 3, H, W]; or why it cannot be used."""


def ready(path: Path, preprocessing: Preprocessing) -> Floats:
    """An image file as a backbone takes it, float32 [1, 3, H, W].

    Raises:
        UnusableImageError: it cannot be read as an image.
    """
    return normalise(fit(read_rgb(path), preprocessing)[None], preprocessing)


def ready_batches(
    images: Iterable[T], prepare: Callable[[T], Floats], batch: int
) -> Generator[list[Prepared[T]], None, None]:
    """Images in their order, at most `batch` at a time; the next ones are prepared while these are used.

    Memory does not depend on the number of images.

    Args:
        images: of any kind; they are taken as they are needed.
        prepare: makes one ready, in a thread; a ConfigError of it stands for the image.
        batch: images in a list.
    """
    prepared = _ahead(images, prepare, 2 * batch)
    try:
        while together := list(islice(prepared, batch)):
            yield together
    finally:
        prepared.close()


def _ahead(images: Iterable[T], prepare: Callable[[T], Floats], ahead: int) -> Generator[Prepared[T], None, None]:
    def outcome(image: T) -> Floats | ConfigError:
        try:
            return prepare(image)
        except ConfigError as error:
            return error

    waiting: deque[tuple[T, Future[Floats | ConfigError]]] = deque()
    pool = ThreadPoolExecutor(usable_threads())
    try:
        for image in images:
            waiting.append((image, pool.submit(outcome, image)))
            if len(waiting) > ahead:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
    finally:
        # Whoever stops half-way waits for no image that was not begun.
        pool.shutdown(cancel_futures=True)
