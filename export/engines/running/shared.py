"""One engine for all tasks: each task's tensors lie on the device, and a switch of tasks is a switch of addresses.

`use` only remembers the name. The first call of a task with a size of batch sets the addresses and captures a CUDA
graph, into which they are baked; every later one launches that graph. So a switch costs two look-ups in tables, no
build, no refit and no copy. Without graphs it costs one `set_tensor_address` for each tensor of the task.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from mimi_edge.errors import ArtifactError
from mimi_edge.export.engines.running.cuda import DeviceBuffer
from mimi_edge.export.engines.running.exchange import DeviceMemory, ImageFlow
from mimi_edge.export.engines.running.executor import Call, Executor, Plan, Port
from mimi_edge.export.engines.running.fitting import Slot, Tensors, fitting
from mimi_edge.export.engines.running.switching import SwitchedRunner, check_classes
from mimi_edge.export.graphs import INPUT
from mimi_edge.tasks.stores import Floats

ALIGNMENT = 256
"""Of each tensor, in bytes: as `cudaMalloc` aligns, so that kernels may read as wide as they like."""


@dataclass(frozen=True)
class Resident:
    """A task on the device.

    Attributes:
        number: no other task of this runner has or had it; it names the task's graphs.
        classes: C, that the task has; the engine gives as many logits as the widest task needs.
        buffer: that holds all its tensors.
        addresses: of the tensors.
    """

    number: int
    classes: int
    buffer: DeviceBuffer
    addresses: Mapping[str, int]


class SharedRunner(SwitchedRunner[Resident]):
    """An engine that takes adapters and head as inputs, with the tasks that are on the device. A context manager.

    Tasks may come, be replaced and go between any two calls.
    """

    def __init__(self, plan: Plan) -> None:
        """Loads a plan without any task.

        Raises:
            ArtifactError: the plan is damaged, for another GPU or version, or takes no tasks.
            MimiEdgeError: there is not enough memory.
        """
        super().__init__()
        self._last_number = 0
        self._calls: dict[tuple[int, int], Call] = {}
        with ExitStack() as stack:
            self.executor = stack.enter_context(Executor(plan))
            self._ports = task_ports(self.executor, (INPUT,))
            self.flow = stack.enter_context(ImageFlow(self.executor))
            stack.push(self._leave)
            self._stack = stack.pop_all()

    def add(self, task: str, tensors: Tensors, classes: int) -> None:
        """Puts a task on the device; one of the same name is overwritten where it lies, and its graphs stay good.

        Args:
            task: name of it.
            tensors: by the names and in the shapes of the engine's inputs, padded; floats are converted to the
                engine's type.
            classes: C, the task's own.

        Raises:
            ArtifactError: the tensors are not those that the engine takes; every fault is named.
            CudaError: there is not enough memory.
        """
        checked = fitting(tensors, {port.name: Slot(port.dtype, port.shape) for port in self._ports}, task)
        check_classes(classes, self.executor, task)
        offsets, size_bytes = _offsets(self._ports)
        known = self._tasks.get(task)
        buffer = known.buffer if known else self.executor.cuda.allocate(size_bytes)
        with ExitStack() as stack:
            if not known:
                stack.push(buffer)
            self._upload(buffer, checked, offsets, size_bytes)
            stack.pop_all()
        number = known.number if known else self._next_number()
        addresses = {name: buffer.handle + offset for name, offset in offsets.items()}
        self._tasks[task] = Resident(number, classes, buffer, addresses)

    def remove(self, task: str) -> None:
        """Takes a task off the device.

        Raises:
            ConfigError: it is not there.
        """
        resident = self._found(task)
        self.executor.forget_graphs(lambda key: isinstance(key, tuple) and key[0] == resident.number)
        self._calls = {key: call for key, call in self._calls.items() if key[0] != resident.number}
        self._forget(task)
        resident.buffer.close()

    def use(self, task: str) -> None:
        """Switches to a task: the next `run` answers with it.

        Raises:
            ConfigError: it is not on the device.
        """
        self._found(task)
        self._current = task

    def launch(self, batch: int) -> None:
        """Starts the engine, with the task in use, on what is on the device; does not wait.

        Raises:
            ConfigError: no task is in use.
        """
        resident = self._in_use()
        key = resident.number, batch
        call = self._calls.get(key)
        if call is None:
            addresses = {**self.flow.exchange.addresses, **resident.addresses}
            call = self._calls[key] = Call(key, self.flow.shapes(batch), addresses)
        self.executor.launch(call)

    @property
    def memory(self) -> DeviceMemory:
        """What engine and tasks take on the device."""
        return self.flow.memory({name: resident.buffer.size_bytes for name, resident in self._tasks.items()})

    def _upload(self, buffer: DeviceBuffer, tensors: Tensors, offsets: Mapping[str, int], size_bytes: int) -> None:
        """One copy for the whole task, in the stream, so after whatever still reads the old values."""
        packed = np.zeros(size_bytes, np.uint8)
        for name, values in tensors.items():
            packed[offsets[name] : offsets[name] + values.nbytes] = values.reshape(-1).view(np.uint8)
        self.executor.cuda.upload(buffer.handle, packed, self.executor.stream)
        self.executor.wait()

    def _next_number(self) -> int:
        self._last_number += 1
        return self._last_number

    def _outputs(self, images: Floats) -> dict[str, Floats]:
        return self.flow.run(images, self.launch)

    def _leave(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        """Memory of the tasks goes once nothing runs any more, all of it even where a part refuses."""
        with ExitStack() as stack:
            for resident in self._tasks.values():
                stack.push(resident.buffer)
            stack.push(self.executor.settle)
            leaving = stack.pop_all()
        self._tasks.clear()
        self._current = None
        leaving.__exit__(kind, error, trace)


def task_ports(executor: Executor, others: Sequence[str]) -> tuple[Port, ...]:
    """The inputs that hold tasks' weights.

    Raises:
        ArtifactError: there are none.
    """
    ports = tuple(port for port in executor.inputs if port.name not in others)
    if not ports:
        raise ArtifactError(f"{executor.name} has one task built in; expected one that takes tasks as inputs.")
    return ports


def _offsets(ports: Sequence[Port]) -> tuple[dict[str, int], int]:
    """Where each tensor lies in one buffer, and the buffer's size."""
    offsets: dict[str, int] = {}
    end = 0
    for port in ports:
        offsets[port.name] = end
        end += math.ceil(port.largest_bytes / ALIGNMENT) * ALIGNMENT
    return offsets, end
