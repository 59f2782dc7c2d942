"""What a run computes with, sitting by sitting: threads, and device with precision. A stop ends a sitting."""

from __future__ import annotations

from typing import TypeVar

import torch

from mimi_edge.events import Listener, Note
from mimi_edge.training.devices import computed_precision
from mimi_edge.training.loop import Progress

_Entry = TypeVar("_Entry")


def note_sitting(progress: Progress, device: torch.device, precision: str, listener: Listener) -> None:
    """Writes down what this sitting computes with, and says what of it is other than in the one before.

    Args:
        progress: of the run; gets an entry for what is new.
        device: that is trained on.
        precision: that was asked for; `auto` is another one on another machine.
        listener: hears what may make the task another one.
    """
    threads, computed = torch.get_num_threads(), computed_in(device, precision)
    if progress.threads and progress.threads[-1] != threads and device.type == "cpu":
        # Sums are added up in another order by another number of threads, and weights differ in their last bits then.
        listener(
            Note(
                f"This run was begun with {progress.threads[0]} CPU threads and goes on with {threads}: its task may "
                f"differ in its last bits from that of an uninterrupted run. To avoid that: --threads "
                f"{progress.threads[0]}"
            )
        )
    if progress.computed_in and progress.computed_in[-1] != computed:
        listener(
            Note(
                f"This run was begun in {progress.computed_in[0]} and goes on in {computed}: its task will differ "
                "from that of an uninterrupted run. To avoid that, go on where it was begun, or begin a run with "
                "--precision fp32, which every machine has."
            )
        )
    _add(progress.threads, threads)
    _add(progress.computed_in, computed)


def computed_in(device: torch.device, precision: str) -> str:
    """The precision of the forward pass in training, and where: `bf16 on cpu`."""
    return f"{computed_precision(device, precision)} on {device.type}"


def _add(entries: list[_Entry], new: _Entry) -> None:
    if not entries or entries[-1] != new:
        entries.append(new)
