"""The tensors of many tasks stacked on the device, [T, ...] each, so that one call can gather any of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimi_edge.errors import ConfigError
from mimi_edge.export.engines.running.cuda import DeviceBuffer
from mimi_edge.export.engines.running.executor import Executor, Port, Shape
from mimi_edge.export.engines.running.fitting import Slot
from mimi_edge.export.engines.running.owner import Owner


class Bank(Owner):
    """Places for tasks on the device. A context manager.

    It begins as small as the engine allows and doubles when it is full, up to what the engine allows. Places that no
    task has hold zeros.
    """

    def __init__(self, executor: Executor, ports: Sequence[Port]) -> None:
        """Makes the first places.

        Args:
            executor: whose stream copies.
            ports: inputs [T, ...].

        Raises:
            CudaError: there is not enough memory.
        """
        self._executor, self._ports = executor, tuple(ports)
        self._places: dict[str, int] = {}
        self._buffers: dict[str, DeviceBuffer] = {}
        self.capacity = 0
        with ExitStack() as stack:
            stack.push(self._leave)
            self._resize(max(1, *(port.smallest[0] for port in ports)))
            self._stack = stack.pop_all()

    @property
    def most(self) -> int:
        """Tasks that the engine can have at once."""
        return min(port.largest[0] for port in self._ports)

    @property
    def addresses(self) -> dict[str, int]:
        """Of the whole tensors."""
        return {name: buffer.handle for name, buffer in self._buffers.items()}

    @property
    def slots(self) -> dict[str, Slot]:
        """For one task's tensors."""
        return {port.name: Slot(port.dtype, port.shape[1:]) for port in self._ports}

    @property
    def shapes(self) -> dict[str, Shape]:
        """Of the whole tensors at the moment."""
        return {port.name: (self.capacity, *port.shape[1:]) for port in self._ports}

    @property
    def place_bytes(self) -> int:
        """Of one place, in all tensors together."""
        return sum(_row_bytes(port) for port in self._ports)

    @property
    def size_bytes(self) -> int:
        """Of all places."""
        return self.capacity * self.place_bytes

    def place(self, task: str) -> int:
        """Where a task is."""
        return self._places[task]

    def put(self, task: str, tensors: Mapping[str, NDArray[Any]]) -> bool:
        """Writes a task into its place, or into a new one; says whether the tensors moved because they grew.

        Args:
            task: name of it.
            tensors: in the engine's types, contiguous, as `slots` says.

        Raises:
            ConfigError: the engine has no place left.
            CudaError: there is not enough memory.
        """
        grown = task not in self._places and len(self._places) == self.capacity
        if grown:
            self._grow(task)
        place = self._places.get(task, self._free_place())
        for port in self._ports:
            address = self._buffers[port.name].handle + place * _row_bytes(port)
            self._executor.cuda.upload(address, tensors[port.name], self._executor.stream)
        self._executor.wait()
        self._places[task] = place
        return grown

    def drop(self, task: str) -> None:
        """Frees a task's place; what lies there stays until another task comes."""
        del self._places[task]

    def _free_place(self) -> int:
        taken = set(self._places.values())
        return next((place for place in range(self.capacity) if place not in taken), 0)

    def _grow(self, task: str) -> None:
        if self.capacity >= self.most:
            raise ConfigError(
                f"{self._executor.name} has room for {self.most} tasks at once, and {task} would be one more. "
                "Remove one, or build it for more."
            )
        self._resize(min(self.capacity * 2, self.most))

    def _resize(self, capacity: int) -> None:
        """Moves everything into larger buffers; on failure the old ones stay."""
        with ExitStack() as stack:
            larger = {port.name: stack.enter_context(self._enlarged(port, capacity)) for port in self._ports}
            self._executor.wait()
            stack.pop_all()
        outgrown, self._buffers, self.capacity = self._buffers, larger, capacity
        for buffer in outgrown.values():
            buffer.close()

    def _enlarged(self, port: Port, capacity: int) -> DeviceBuffer:
        cuda, stream = self._executor.cuda, self._executor.stream
        buffer = cuda.allocate(capacity * _row_bytes(port))
        with ExitStack() as stack:
            stack.push(buffer)
            cuda.clear(buffer.handle, buffer.size_bytes, stream)
            if port.name in self._buffers:
                old = self._buffers[port.name]
                cuda.copy(buffer.handle, old.handle, old.size_bytes, stream)
            stack.pop_all()
        return buffer

    def _leave(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        with ExitStack() as stack:
            for buffer in self._buffers.values():
                stack.push(buffer)
            stack.push(self._executor.settle)
            leaving = stack.pop_all()
        self._buffers, self._places = {}, {}
        leaving.__exit__(kind, error, trace)


def _row_bytes(port: Port) -> int:
    """Of one task's tensor."""
    return int(np.prod(port.shape[1:], dtype=np.int64)) * port.dtype.itemsize
