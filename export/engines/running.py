"""Runs an engine that holds one task: images in, logits out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mimi_edge.errors import ArtifactError, ConfigError, MimiEdgeError
from mimi_edge.events import Listener, silent
from mimi_edge.export.engines.bindings import Bindings
from mimi_edge.export.engines.cuda import Cuda, PinnedArray
from mimi_edge.export.engines.executing import GRAPHS, Call, Executor, Port, Shape
from mimi_edge.export.graphs import INPUT, LOGITS
from mimi_edge.tasks.stores import Floats

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
class DeviceMemory:
    """Where the device memory of a running engine goes, in bytes.

    Attributes:
        engine_bytes: what loading it took: weights, and what the library needs once.
        scratch_bytes: what kernels work in.
        buffers_bytes: inputs and outputs that go to and from the host.
        tasks_bytes: of each task that is resident beside the engine.
    """

    engine_bytes: int
    scratch_bytes: int
    buffers_bytes: int
    tasks_bytes: Mapping[str, int]

    @property
    def total_bytes(self) -> int:
        """All of it; captured graphs are not in it, because CUDA does not tell."""
        return self.engine_bytes + self.scratch_bytes + self.buffers_bytes + sum(self.tasks_bytes.values())


class Exchange:
    """Buffers through which inputs and outputs go between host and device with every call. A context manager."""

    def __init__(self, executor: Executor, ports: Sequence[Port]) -> None:
        """Makes room for the largest of each.

        Raises:
            CudaError: there is not enough memory.
        """
        self._executor, cuda = executor, executor.cuda
        with ExitStack() as stack:
            self._device = {port.name: stack.enter_context(cuda.allocate(port.largest_bytes)) for port in ports}
            pinned = {
                port.name: stack.enter_context(cuda.pinned((math.prod(port.largest),), port.dtype)) for port in ports
            }
            stack.push(self._leave)
            self._host = {name: memory.array for name, memory in pinned.items()}
            self._stack = stack.pop_all()

    @property
    def addresses(self) -> dict[str, int]:
        """On the device."""
        return {name: buffer.handle for name, buffer in self._device.items()}

    @property
    def size_bytes(self) -> int:
        """On the device."""
        return sum(buffer.size_bytes for buffer in self._device.values())

    def send(self, name: str, values: NDArray[Any], rows: int) -> None:
        """Starts to copy values to the device, filled up with zeros to so many rows.

        Raises:
            CudaError: a copy failed.
        """
        host = self._view(name, (rows, *values.shape[1:]))
        host[: len(values)] = values
        host[len(values) :] = 0
        self._executor.cuda.upload(self._device[name].handle, host, self._executor.stream)

    def fetch(self, name: str, shape: Shape) -> NDArray[Any]:
        """Starts to copy a tensor to the host; it is there once the stream is done, until the next fetch."""
        host = self._view(name, shape)
        self._executor.cuda.download(host, self._device[name].handle, self._executor.stream)
        return host

    def close(self) -> None:
        """Frees everything; the second time nothing happens."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._stack.__exit__(kind, error, _)

    def _view(self, name: str, shape: Shape) -> NDArray[Any]:
        if not self._host:
            raise MimiEdgeError(f"{self._executor.name} was closed already. Load it again.")
        return self._host[name][: math.prod(shape)].reshape(shape)

    def _leave(self, _kind: Any, error: BaseException | None, _trace: Any) -> None:
        """Nothing may still copy when memory goes."""
        self._host = {}
        if error is None:
            self._executor.wait()


class EngineRunner:
    """An engine with one task in it, ready to answer. A context manager.

    Attributes:
        executor: what runs it.
    """

    def __init__(
        self,
        bindings: Bindings,
        plan: Any,
        cuda: Cuda,
        *,
        name: str = "the engine",
        graphs: int = GRAPHS,
        listener: Listener = silent,
    ) -> None:
        """Loads a plan and makes room for its largest batch; check where the plan comes from first.

        Args:
            bindings: of the TensorRT that built it.
            plan: bytes of the plan.
            cuda: the device.
            name: of the engine, for messages.
            graphs: CUDA graphs to keep, one for each size of batch; 0 uses none.
            listener: hears it where graphs cannot be used.

        Raises:
            ArtifactError: the plan is damaged, for another GPU or version, or takes more than images.
            MimiEdgeError: there is not enough memory.
        """
        with ExitStack() as stack:
            self.executor = stack.enter_context(
                Executor(bindings, plan, cuda, name=name, graphs=graphs, listener=listener)
            )
            self._images = _images_port(self.executor)
            self._exchange = stack.enter_context(Exchange(self.executor, self.executor.ports))
            self._calls: dict[int, tuple[Call, dict[str, Shape]]] = {}
            self._stack = stack.pop_all()

    def run(self, images: Floats) -> Floats:
        """Normalised images, float32 [B, 3, S, S] -> logits, float32 [B, C].

        Batches above the profile's largest go through in parts; ones below its smallest are filled up, and cut again.

        Raises:
            ConfigError: the images have another shape.
            MimiEdgeError: the device failed.
        """
        return self.run_all(images)[LOGITS]

    def run_all(self, images: Floats) -> dict[str, Floats]:
        """Every output, in float32, by name; more than the logits where more were marked.

        Raises:
            ConfigError: the images have another shape.
            MimiEdgeError: the device failed.
        """
        check_images(images, self._images, self.executor.name)
        parts = [self._part(images[start:stop], rows) for start, stop, rows in parts_of(len(images), self._images)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def load(self, images: Floats) -> int:
        """Puts one batch on the device and waits for it; gives its size for `launch`. For measuring.

        Raises:
            ConfigError: the images have another shape, or are more than the largest batch.
        """
        check_images(images, self._images, self.executor.name)
        ((_, _, rows),) = parts_of(len(images), self._images)
        self._exchange.send(INPUT, images, rows)
        self.executor.wait()
        return rows

    def launch(self, batch: int) -> None:
        """Starts the engine on what is on the device; does not wait. For measuring without copies."""
        self.executor.launch(self._call(batch)[0])

    @property
    def batches(self) -> tuple[int, int]:
        """Smallest and largest batch of the engine's profile."""
        return self._images.smallest[0], self._images.largest[0]

    @property
    def memory(self) -> DeviceMemory:
        """What it takes on the device."""
        return DeviceMemory(self.executor.loaded_bytes, self.executor.scratch_bytes, self._exchange.size_bytes, {})

    def close(self) -> None:
        """Frees everything; the second time nothing happens."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._stack.__exit__(kind, error, _)

    def _call(self, rows: int) -> tuple[Call, dict[str, Shape]]:
        """The call for a batch, and the shapes that come out of it."""
        if rows not in self._calls:
            shapes = ((INPUT, (rows, *self._images.shape[1:])),)
            call = Call(rows, shapes, self._exchange.addresses)
            self._calls[rows] = call, self.executor.output_shapes(shapes)
        return self._calls[rows]

    def _part(self, images: Floats, rows: int) -> dict[str, Floats]:
        self._exchange.send(INPUT, images, rows)
        self.launch(rows)
        fetched = {name: self._exchange.fetch(name, shape) for name, shape in self._call(rows)[1].items()}
        self.executor.wait()
        # A marked output may have several rows an image: Swin's windows.
        return {
            name: values[: len(values) * len(images) // rows].astype(np.float32) for name, values in fetched.items()
        }


def _flat(cuda: Cuda, port: Port) -> PinnedArray:
    """Host memory for as many elements as the port may have."""
    return cuda.pinned((math.prod(port.largest),), port.dtype)


def check_images(images: Floats, port: Port, engine: str) -> None:
    """Holds images against what the engine takes.

    Raises:
        ConfigError: they have another shape, or there are none.
    """
    expected = port.shape[1:]
    if images.ndim != 4 or images.shape[1:] != expected or not len(images):
        text = ", ".join(["B", *map(str, expected)])
        raise ConfigError(f"{engine} takes images [{text}]; got {list(images.shape)}.")


def parts_of(count: int, port: Port) -> Iterator[tuple[int, int, int]]:
    """Cuts `count` rows into parts that the engine takes: start, stop, and rows to send, which may be more."""
    smallest, largest = port.smallest[0], port.largest[0]
    for start in range(0, count, largest):
        stop = min(start + largest, count)
        yield start, stop, max(stop - start, smallest)


def _images_port(executor: Executor) -> Port:
    """The one input of an engine with one task.

    Raises:
        ArtifactError: it has others, or its images or logits are not fp32.
    """
    names = [port.name for port in executor.inputs]
    if names != [INPUT]:
        raise ArtifactError(
            f"{executor.name} takes {', '.join(names)}; expected only {INPUT}. Engines that several tasks share are "
            "run with their tasks."
        )
    return boundary(executor)


def boundary(executor: Executor) -> Port:
    """The port of the images, once it is sure that images and logits are fp32.

    Raises:
        ArtifactError: they are not, or are missing.
    """
    images, logits = executor.port(INPUT), executor.port(LOGITS)
    wrong = [port for port in (images, logits) if port.dtype != np.float32]
    if wrong or len(images.shape) != 4 or len(logits.shape) != 2:
        got = ", ".join(f"{port.name} {port.dtype} {list(port.shape)}" for port in (images, logits))
        raise ArtifactError(f"{executor.name} does not take fp32 images and give fp32 logits ({got}). Export it again.")
    return images
