"""Images that do not lie on the device: the next batches are read and brought there while others are trained on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

AHEAD = 2
"""Batches that are read before they are asked for."""

Index = Tensor | slice
"""Of images: int64 [B], or a slice."""


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


class ReadAhead:
    """Images by their positions, as a tensor uint8 [n, 3, H, W] on the device would give them.

    Args:
        read: gives images of some positions, uint8 [B, 3, H, W] on the CPU; called by one other thread.
        count: n.
        device: where they are wanted.
    """

    def __init__(self, read: Callable[[Sequence[int]], Tensor], count: int, device: torch.device) -> None:
        self._read, self._count, self._device = read, count, device
        self._reader = ThreadPoolExecutor(1)
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._to_come: deque[list[int]] = deque()
        self._ahead: deque[tuple[list[int], Future[_Brought]]] = deque()

    def __len__(self) -> int:
        return self._count

    def coming(self, batches: Iterable[Index]) -> None:
        """Says which batches will be asked for, in which order; what was said before is forgotten."""
        while self._ahead:
            self._ahead.popleft()[1].cancel()
        self._to_come = deque(map(self._positions, batches))
        self._fill()

    def __getitem__(self, index: Index) -> Tensor:
        """A batch; one that nobody said was coming is read now."""
        positions = self._positions(index)
        if self._ahead and self._ahead[0][0] == positions:
            brought = self._ahead.popleft()[1].result()
            self._fill()
        else:
            brought = self._reader.submit(self._bring, positions).result()
        if brought.copied is not None:
            current = torch.cuda.current_stream(self._device)
            current.wait_event(brought.copied)
            brought.pixels.record_stream(current)
        return brought.pixels

    def _fill(self) -> None:
        while self._to_come and len(self._ahead) < AHEAD:
            positions = self._to_come.popleft()
            self._ahead.append((positions, self._reader.submit(self._bring, positions)))

    def _bring(self, positions: list[int]) -> _Brought:
        host = self._read(positions)
        if self._stream is None:
            return _Brought(host.to(self._device), host)
        host = host.pin_memory()
        with torch.cuda.stream(self._stream):
            pixels = host.to(self._device, non_blocking=True)
            return _Brought(pixels, host, self._stream.record_event())

    def _positions(self, index: Index) -> list[int]:
        if isinstance(index, slice):
            return list(range(*index.indices(self._count)))
        positions: list[int] = index.tolist()
        return positions
