"""What torch answered with a finished task's stored weights, kept in its run.

An export holds a graph against it without loading torch, and on machines that have none. Needs no torch itself.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mimi_edge.documents import read_bytes
from mimi_edge.files import write_whole
from mimi_edge.images.splits import spread
from mimi_edge.tasks.stores import Floats

MOST_IMAGES = 64
"""Images of the test split that are answered for."""
LARGEST_BYTES = 50_000_000
_LOGITS, _TASK, _PIXELS = "logits", "task_sha256", "pixels_sha256"


@dataclass(frozen=True, eq=False)
class RecordedAnswers:
    """Answers to some images, spread over the test split.

    Attributes:
        logits: [n, C], computed in fp32.
        task_sha256: hex, of the task file whose weights answered.
        pixels_sha256: hex, of the images as the backbone's preprocessing fits them, uint8 [n, H, W, 3].
    """

    logits: Floats
    task_sha256: str
    pixels_sha256: str

    def are_of(self, pixels: NDArray[np.uint8]) -> bool:
        """Whether these are the images, [n, H, W, 3], that were answered."""
        return len(self.logits) == len(pixels) and self.pixels_sha256 == pixels_sha256(pixels)


def answered_positions(count: int) -> NDArray[np.int64]:
    """Which images of a test split of so many are answered for."""
    return spread(count, MOST_IMAGES)


def pixels_sha256(pixels: NDArray[np.uint8]) -> str:
    """Hex hash of images [n, H, W, 3]."""
    return hashlib.sha256(np.ascontiguousarray(pixels).data).hexdigest()


def write_answers(recorded: RecordedAnswers, path: Path) -> None:
    """Writes the file, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    from safetensors.numpy import save

    write_whole(
        path,
        save({_LOGITS: recorded.logits, _TASK: _bytes(recorded.task_sha256), _PIXELS: _bytes(recorded.pixels_sha256)}),
    )


def read_answers(path: Path) -> RecordedAnswers | None:
    """What was recorded; None where there is nothing that can be used, as in runs of earlier releases."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        found = load(read_bytes(path, LARGEST_BYTES))
        logits, digests = found[_LOGITS], [found[name].tobytes() for name in (_TASK, _PIXELS)]
    except (OSError, SafetensorError, KeyError, ValueError):
        return None
    usable = logits.dtype == np.float32 and logits.ndim == 2 and logits.size and bool(np.isfinite(logits).all())
    return RecordedAnswers(logits, *(digest.hex() for digest in digests)) if usable else None


def _bytes(digest: str) -> NDArray[np.uint8]:
    return np.frombuffer(bytes.fromhex(digest), np.uint8)
