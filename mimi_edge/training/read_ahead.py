"""Images that do not lie on the device: the next batches are read and brought there while others are trained on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

AHEAD = 2
"""Batches that are read before they are asked for."""

Index = Tensor | slice
"""Of images: int64 [B], or a slice."""
Request = TypeVar("Request")
"""What says which pixels are wanted; equal requests want the same."""


@dataclass(frozen=True)
class _Brought:
    """A batch on the device.

    Attributes:
        pixels: uint8 [B, 3, H, W].
        host: what it was copied from, which must stay until it is copied.
        copied: when that is; None on a CPU.
    """

    pixels: Tensor
    host: Tensor
    copied: torch.cuda.Event | None = None


class Bringer(Generic[Request]):
    """Reads what is wanted next, and brings it to a device, while others work on what came before.

    Args:
        read: gives pixels, uint8 [B, 3, H, W] on the CPU, of what is wanted; called by one other thread.
        device: where they are wanted.
    """

    def __init__(self, read: Callable[[Request], Tensor], device: torch.device) -> None:
        self._read, self._device = read, device
        self._reader = ThreadPoolExecutor(1)
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._to_come: deque[Request] = deque()
        self._ahead: deque[tuple[Request, Future[_Brought]]] = deque()

    def coming(self, wanted: Iterable[Request]) -> None:
        """Says what will be wanted, in which order; what was said before is forgotten."""
        while self._ahead:
            self._ahead.popleft()[1].cancel()
        self._to_come = deque(wanted)
        self._fill()

    def bring(self, wanted: Request) -> Tensor:
        """What is wanted now; what nobody said was coming is read now."""
        if self._ahead and self._ahead[0][0] == wanted:
            brought = self._ahead.popleft()[1].result()
            self._fill()
        else:
            brought = self._reader.submit(self._bring, wanted).result()
        if brought.copied is not None:
            current = torch.cuda.current_stream(self._device)
            current.wait_event(brought.copied)
            brought.pixels.record_stream(current)
        return brought.pixels

    def _fill(self) -> None:
        while self._to_come and len(self._ahead) < AHEAD:
            wanted = self._to_come.popleft()
            self._ahead.append((wanted, self._reader.submit(self._bring, wanted)))

    def _bring(self, wanted: Request) -> _Brought:
        host = self._read(wanted)
        if self._stream is None:
            return _Brought(host.to(self._device), host)
        host = host.pin_memory()
        with torch.cuda.stream(self._stream):
            pixels = host.to(self._device, non_blocking=True)
            return _Brought(pixels, host, self._stream.record_event())


class ReadAhead:
    """Images by their positions, as a tensor uint8 [n, 3, H, W] on the device would give them.

    Args:
        read: gives images of some positions, uint8 [B, 3, H, W] on the CPU; called by one other thread.
        count: n.
        device: where they are wanted.
    """

    def __init__(self, read: Callable[[Sequence[int]], Tensor], count: int, device: torch.device) -> None:
        self._count, self._bringer = count, Bringer[list[int]](read, device)

    def __len__(self) -> int:
        return self._count

    def coming(self, batches: Iterable[Index]) -> None:
        """Says which batches will be asked for, in which order; what was said before is forgotten."""
        self._bringer.coming(map(self._positions, batches))

    def __getitem__(self, index: Index) -> Tensor:
        """A batch; one that nobody said was coming is read now."""
        return self._bringer.bring(self._positions(index))

    def _positions(self, index: Index) -> list[int]:
        if isinstance(index, slice):
            return list(range(*index.indices(self._count)))
        positions: list[int] = index.tolist()
        return positions
