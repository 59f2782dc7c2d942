"""How images and answers go between host and device: pinned buffers, and batches cut to what an engine takes."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimi_edge.errors import ArtifactError, ConfigError, MimiEdgeError
from mimi_edge.export.engines.running.cuda import Cuda, PinnedArray
from mimi_edge.export.engines.running.executor import Executor, Port, Shape, Shapes
from mimi_edge.export.engines.running.owner import Owner
from mimi_edge.export.graphs import INPUT, LOGITS
from mimi_edge.tasks.stores import Floats


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


class Exchange(Owner):
    """Buffers through which inputs and outputs go between host and device with every call. A context manager."""

    def __init__(self, executor: Executor, ports: Sequence[Port]) -> None:
        """Makes room for the largest of each.

        Raises:
            CudaError: there is not enough memory.
        """
        self._executor, cuda = executor, executor.cuda
        with ExitStack() as stack:
            self._device = {port.name: stack.enter_context(cuda.allocate(port.largest_bytes)) for port in ports}
            self._host = {port.name: stack.enter_context(_flat(cuda, port)).array for port in ports}
            stack.push(executor.settle)
            stack.callback(self._forget)
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

    def _view(self, name: str, shape: Shape) -> NDArray[Any]:
        if not self._host:
            raise MimiEdgeError(f"{self._executor.name} was closed already. Load it again.")
        return self._host[name][: math.prod(shape)].reshape(shape)

    def _forget(self) -> None:
        self._host = {}


class ImageFlow(Owner):
    """Images in, all outputs out, in parts that the engine takes. A context manager.

    Attributes:
        exchange: the buffers.
        images: the port of the images.
    """

    def __init__(self, executor: Executor) -> None:
        """Makes room for the largest batch.

        Raises:
            ArtifactError: images or logits are not fp32.
            CudaError: there is not enough memory.
        """
        self._executor = executor
        self.images = boundary(executor)
        self._output_shapes: dict[int, dict[str, Shape]] = {}
        with ExitStack() as stack:
            self.exchange = stack.enter_context(Exchange(executor, (self.images, *executor.outputs)))
            self._stack = stack.pop_all()

    def run(self, images: Floats, launch: Callable[[int], None]) -> dict[str, Floats]:
        """Every output, in float32, by name.

        Args:
            images: normalised, [B, 3, H, W], any B above 0.
            launch: starts the engine on so many rows.

        Raises:
            ConfigError: the images have another shape.
            MimiEdgeError: the device failed.
        """
        self._check(images)
        cuts = parts_of(len(images), self.images)
        parts = [self._part(images[start:stop], rows, launch) for start, stop, rows in cuts]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def load(self, images: Floats) -> int:
        """Puts one batch on the device and waits for it; gives the rows to launch.

        Raises:
            ConfigError: the images have another shape, or are more than the largest batch.
        """
        self._check(images)
        _, largest = self.batches
        if len(images) > largest:
            raise ConfigError(f"{self._executor.name} takes at most {largest} images at once; got {len(images)}.")
        rows = max(len(images), self.batches[0])
        self.exchange.send(INPUT, images, rows)
        self._executor.wait()
        return rows

    def shapes(self, rows: int) -> Shapes:
        """Of the inputs, for so many rows."""
        return self._executor.varying({INPUT: (rows, *self.images.shape[1:])})

    @property
    def batches(self) -> tuple[int, int]:
        """Smallest and largest batch of the engine's profile."""
        return self.images.smallest[0], self.images.largest[0]

    def memory(self, tasks_bytes: Mapping[str, int]) -> DeviceMemory:
        """What everything takes on the device."""
        executor = self._executor
        return DeviceMemory(executor.loaded_bytes, executor.scratch_bytes, self.exchange.size_bytes, tasks_bytes)

    def _part(self, images: Floats, rows: int, launch: Callable[[int], None]) -> dict[str, Floats]:
        self.exchange.send(INPUT, images, rows)
        launch(rows)
        fetched = {name: self.exchange.fetch(name, shape) for name, shape in self._shapes_out(rows).items()}
        self._executor.wait()
        # A marked output may have several rows an image: Swin's windows.
        return {
            name: values[: len(values) * len(images) // rows].astype(np.float32) for name, values in fetched.items()
        }

    def _shapes_out(self, rows: int) -> dict[str, Shape]:
        if rows not in self._output_shapes:
            self._output_shapes[rows] = self._executor.output_shapes(self.shapes(rows))
        return self._output_shapes[rows]

    def _check(self, images: Floats) -> None:
        check_images(images, self.images, self._executor.name)


class ImageRunner(Owner, ABC):
    """An engine that images go through, ready to answer. A context manager.

    Attributes:
        executor: what runs it.
        flow: of images in and outputs out.
    """

    executor: Executor
    flow: ImageFlow

    def run(self, images: Floats) -> Floats:
        """Normalised images, float32 [B, 3, H, W] -> logits, float32 [B, C].

        Batches above the profile's largest go through in parts; ones below its smallest are filled up, and cut again.

        Raises:
            ConfigError: the images have another shape, or there is no task to answer with.
            MimiEdgeError: the device failed.
        """
        return self.run_all(images)[LOGITS]

    @abstractmethod
    def run_all(self, images: Floats) -> dict[str, Floats]:
        """Every output, in float32, by name; as of `run`."""

    def load(self, images: Floats) -> int:
        """Puts one batch on the device and waits for it; gives its size for `launch`. For measuring.

        Raises:
            ConfigError: the images have another shape, or are more than the largest batch.
        """
        return self.flow.load(images)

    @property
    def batches(self) -> tuple[int, int]:
        """Smallest and largest batch of the engine's profile."""
        return self.flow.batches


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
