"""How many processes of each artefact fit into this machine's memory beside one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mimi_edge.errors import MimiEdgeError
from mimi_edge.free_memory import free_memory_bytes
from mimi_edge.images.image_size import ImageSize
from mimi_edge.kernel_files import ROOT
from mimi_edge.profiles.board import jetson
from mimi_edge.profiles.memory import host_memory

USED_SHARE = 0.5
"""Of the memory that is left, what further processes may take: others need some, too."""
ACTIVATIONS = 64
"""What a network holds while it runs, as a multiple of its float32 images; a guess on the safe side."""
IMAGE_BYTES = 3 * 4


@dataclass(frozen=True)
class Room:
    """Memory that is left, in bytes; None where nobody tells.

    Attributes:
        host_bytes: for new processes, whatever holds them.
        device_bytes: of the first GPU; None as well where it shares the host's.
        unified: it does.
    """

    host_bytes: int | None
    device_bytes: int | None = None
    unified: bool = False


def room_here(root: Path = ROOT) -> Room:
    """What is left now.

    Args:
        root: of the file system, for tests.
    """
    unified = jetson.is_jetson(root)
    return Room(free_memory_bytes(root), None if unified else _device_bytes(), unified)


def running_bytes(image_size: ImageSize, batch: int) -> int:
    """About what a network needs to answer a batch of images, beside its weights."""
    return ACTIVATIONS * IMAGE_BYTES * image_size.area * batch


def resident_bytes(pids: Sequence[int]) -> int:
    """The most that processes have held so far, together."""
    return sum(host_memory(Path("/proc", str(pid))).peak_bytes for pid in pids)


def taken_between(before: Room, after: Room, resident: int) -> Room:
    """What came to be held between two looks.

    Args:
        before: what was left.
        after: what is left.
        resident: bytes of the processes that came to be, as the kernel counts them, without what they hold of a GPU.
    """
    host = _less(before.host_bytes, after.host_bytes) if before.unified else 0
    return Room(max(resident, host), _less(before.device_bytes, after.device_bytes), before.unified)


def _less(before: int | None, after: int | None) -> int:
    return 0 if before is None or after is None else max(0, before - after)


def that_fit(wanted: int, one_of_each: Room, running: int, left: Room) -> int:
    """How many processes of each artefact can be there at once, one of each being there already; at least that.

    Args:
        wanted: as many as are of use.
        one_of_each: what one process of every artefact took together to open.
        running: bytes that they will take together to run, beside that.
        left: beside those that are there.
    """
    fit = [wanted]
    for taken, free in ((one_of_each.host_bytes, left.host_bytes), (one_of_each.device_bytes, left.device_bytes)):
        # A GPU of which nobody took anything is not what they run on.
        if taken and free is not None:
            fit.append(1 + int((USED_SHARE * free - running) / (taken + running)))
    return max(1, min(fit))


def _device_bytes() -> int | None:
    from mimi_edge.profiles.board.nvml import open_gpu

    try:
        gpu = open_gpu()
        return int(gpu.nvml.nvmlDeviceGetMemoryInfo(gpu.handle).free)
    except (MimiEdgeError, AttributeError, RuntimeError):
        return None
