"""Several processes that train one task together, by torch's own distributed package and DistributedDataParallel.

Each step's batch is shared among them, and gradients of what is trained are added up; all else they compute alike. So
what decides the course of a run must be the same everywhere: clocks and requests to stop are agreed upon, scores are
those of the first. A process alone is a group of one, for which nothing here costs or changes anything.

Only the first keeps a run folder. The others have one each that goes when they end, so whoever writes need not know.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from mimi_edge.errors import LostRankError, MimiEdgeError
from mimi_edge.tasks.stores import Floats
from mimi_edge.training.rows import Rows
from mimi_edge.training.torchrun import Rank, this_rank

LONGEST_WAIT = timedelta(days=1)
"""For another process: one may decode a million images while the others wait. torchrun ends those whose others died."""

LossOf = Callable[[], Tensor]


class FirstFailedError(MimiEdgeError):
    """The first process could not go on, and has said why."""


@dataclass(frozen=True)
class Share:
    """Those images of a batch that are this process's.

    Attributes:
        rows: of the batch; where there are fewer images than processes, some have one that does not count.
        factor: that the mean loss of the rows is multiplied by, so that the mean over processes is that of the batch;
            None for a process alone, whose rows are all.
    """

    rows: Rows
    factor: float | None = None


@contextmanager
def joined() -> Iterator[Rank]:
    """Makes this process one of its group, as torchrun started it, until the block ends; each has a GPU of its own.

    Raises:
        LostRankError: another process ended.
    """
    here = this_rank()
    if here.is_alone:
        yield here
        return
    has_gpu = torch.cuda.is_available()
    if has_gpu:
        torch.cuda.set_device(here.local % torch.cuda.device_count())
    try:
        distributed.init_process_group("cpu:gloo,cuda:nccl" if has_gpu else "gloo", timeout=LONGEST_WAIT)
        yield here
    except (RuntimeError, distributed.DistError) as error:
        if not _is_of_the_others(error):
            raise
        raise LostRankError(f"Another of the {here.size} processes has ended; what it said is above.") from error
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()


def rank() -> Rank:
    """This process, in the group that it has joined; alone before that."""
    if not distributed.is_initialized():
        return Rank()
    return this_rank()


@contextmanager
def first_before_others() -> Iterator[None]:
    """Does something on the first process, and on the others once it is done there: what fails, fails once.

    Raises:
        FirstFailedError: on the others, if it failed on the first.
    """
    here = rank()
    if here.is_first:
        done = False
        try:
            yield
            done = True
        finally:
            if not here.is_alone:
                _of_the_first(torch.tensor([float(done)]))
        return
    if not bool(_of_the_first(torch.zeros(1)).item()):
        raise FirstFailedError("The first process could not begin.")
    yield


@contextmanager
def folder_of_its_own() -> Iterator[Path]:
    """For a process that is not the first: a folder to keep its run in, which goes when the block ends."""
    folder = Path(tempfile.mkdtemp(prefix=f"mimi-edge-process-{this_rank().number}-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def hand_out(folder: Path, names: Sequence[str]) -> None:
    """Gives the others the first process's files of these names, into their folders; those that are not there, not."""
    here = rank()
    for name in names if not here.is_alone else ():
        path = folder / name
        content = _bytes_of_the_first(path.read_bytes() if here.is_first and path.is_file() else None)
        if content is not None and not here.is_first:
            path.write_bytes(content)


def clock() -> float:
    """Seconds since some moment, the same for all who ask at once."""
    now = time.monotonic()
    return now if rank().is_alone else _of_the_first(torch.tensor([now], dtype=torch.float64)).item()


def any_says(answer: bool) -> bool:
    """Whether one of the processes says yes."""
    if rank().is_alone:
        return answer
    said = torch.tensor([float(answer)])
    distributed.all_reduce(said, distributed.ReduceOp.MAX)
    return bool(said.item())


def agreed(answer: bool) -> bool:
    """What the first process says."""
    return answer if rank().is_alone else bool(_of_the_first(torch.tensor([float(answer)])).item())


def as_on_the_first(values: Floats) -> Floats:
    """The first process's values, for what is to be the same to the last bit."""
    if rank().is_alone:
        return values
    same: Floats = _of_the_first(torch.from_numpy(np.ascontiguousarray(values).copy())).numpy()
    return same


def summed(tensor: Tensor) -> Tensor:
    """The sum over all processes, in place."""
    if not rank().is_alone:
        distributed.all_reduce(tensor)
    return tensor


def rows_of(count: int) -> range:
    """Which of so many images are this process's: none, where there are fewer images than processes."""
    here = rank()
    return range(here.number * count // here.size, (here.number + 1) * count // here.size)


def share_of(count: int) -> Share:
    """Which images of a batch are this process's, and how much they count."""
    if rank().is_alone:
        return Share(Rows.all_of(count))
    rows = rows_of(count)
    return Share(Rows(tuple(rows) or (0,), count), len(rows) * rank().size / count)


class _Passes(nn.Module):
    """What is trained, as DistributedDataParallel wants to have it: with a forward pass that gives the loss."""

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        super().__init__()
        self.trained = nn.ParameterList(parameters)

    def forward(self, loss_of: LossOf) -> Tensor:
        return loss_of()


def adding_gradients_of(parameters: Iterable[nn.Parameter]) -> Callable[[LossOf], Tensor]:
    """Something that computes a loss such that a backward pass gives all processes the same gradients.

    The first process's parameters are everybody's from now on; nothing else is sent, for nothing else is trained.
    """
    if rank().is_alone:
        return lambda loss_of: loss_of()
    passes: Callable[[LossOf], Tensor] = DistributedDataParallel(_Passes(parameters))
    return passes


def _bytes_of_the_first(content: bytes | None) -> bytes | None:
    length = int(_of_the_first(torch.tensor([-1 if content is None else len(content)])).item())
    if length < 0:
        return None
    if length == 0:
        return b""
    return bytes(_of_the_first(torch.frombuffer(bytearray(content or bytes(length)), dtype=torch.uint8)).numpy())


def _of_the_first(tensor: Tensor) -> Tensor:
    distributed.broadcast(tensor, 0)
    return tensor


def _is_of_the_others(error: BaseException) -> bool:
    """Whether an error says that a process which was waited for is gone."""
    said = str(error).lower()
    return isinstance(error, distributed.DistError) or "gloo" in said or "connection" in said
