"""The part of the CUDA runtime that running an engine needs: memory, streams and graphs, each given back once.

Linux only, as TensorRT on a Jetson is. One thread at a time: CUDA keeps the current device for each thread.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from ctypes import byref, c_int, c_size_t, c_void_p
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mimi_edge.errors import ConfigError, MimiEdgeError
from mimi_edge.export.engines.running import cuda_library
from mimi_edge.export.engines.running.cuda_library import declared, driver_library, install_words, libraries

if TYPE_CHECKING:
    from typing_extensions import Self

OUT_OF_MEMORY = 2
DRIVER_TOO_OLD = 35
NO_DEVICE = 100

_NON_BLOCKING = 1
_TO_DEVICE, _TO_HOST, _ON_DEVICE = 1, 2, 3
_THIS_THREAD_ONLY = 1
"""Mode of a capture: what other threads do meanwhile does not spoil it."""
_CLOCK_KHZ, _MULTIPROCESSORS, _INTEGRATED, _MAJOR, _MINOR = 13, 16, 18, 75, 76
"""Numbers of attributes, which stayed the same where the struct of properties did not."""


class CudaError(MimiEdgeError):
    """The CUDA runtime reported an error.

    Attributes:
        code: its number, as in `cudaError_t`.
    """

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Device:
    """The GPU that work goes to.

    Attributes:
        index: of it among the visible ones.
        name: as the driver calls it.
        compute_capability: major and minor, such as (8, 7).
        integrated: whether it shares its memory with the CPU, as on a Jetson.
        multiprocessors: how many it has.
        clock_mhz: highest clock; 0 where it is not told.
        memory_bytes: all of it.
        driver_cuda: newest CUDA that the driver knows, such as "12.6".
        runtime_cuda: CUDA of the runtime library.
    """

    index: int
    name: str
    compute_capability: tuple[int, int]
    integrated: bool
    multiprocessors: int
    clock_mhz: int
    memory_bytes: int
    driver_cuda: str
    runtime_cuda: str


class _Owned:
    """A handle that is given back exactly once, whatever happens in between."""

    def __init__(self, handle: int, release: Callable[[int], None]) -> None:
        self._handle: int | None = handle
        self._release = release

    @property
    def handle(self) -> int:
        """Address or handle.

        Raises:
            MimiEdgeError: it was given back already.
        """
        if self._handle is None:
            raise MimiEdgeError(f"This {type(self).__name__} was closed already. Open a new one.")
        return self._handle

    def close(self) -> None:
        """Gives it back; the second time nothing happens."""
        handle, self._handle = self._handle, None
        if handle is not None:
            self._release(handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is None:
            self.close()
            return
        # After a failed kernel every later call fails as well; the first error is the one to read.
        with suppress(CudaError):
            self.close()


class DeviceBuffer(_Owned):
    """Memory on the device."""

    def __init__(self, address: int, size_bytes: int, release: Callable[[int], None]) -> None:
        super().__init__(address, release)
        self.size_bytes = size_bytes


class PinnedArray(_Owned):
    """Host memory that the device can copy from while the CPU goes on."""

    def __init__(self, address: int, shape: tuple[int, ...], dtype: DTypeLike, release: Callable[[int], None]) -> None:
        super().__init__(address, release)
        self.shape, self.dtype = shape, np.dtype(dtype)

    @property
    def array(self) -> NDArray[Any]:
        """The memory as an array; not to be used once this is closed."""
        size = int(np.prod(self.shape)) * self.dtype.itemsize
        memory = (ctypes.c_uint8 * max(size, 1)).from_address(self.handle)
        return np.frombuffer(memoryview(memory), np.uint8, size).view(self.dtype).reshape(self.shape)


class Stream(_Owned):
    """A queue of work for the device."""


class Graph(_Owned):
    """Work that was captured once and is started as a whole."""


class Cuda:
    """The runtime, bound to one device.

    Attributes:
        device: that it is bound to.
    """

    def __init__(self, library: Any, index: int = 0, driver: Any | None = None) -> None:
        """Binds a library.

        Args:
            library: libcudart as ctypes gives it, or something with the same functions.
            index: of the device.
            driver: libcuda, for the device's name.

        Raises:
            MimiEdgeError: no device, no driver, or one too old for this library.
        """
        self._library = declared(library)
        self._check_devices(index)
        self.call("cudaSetDevice", index)
        self.device = self._describe(index, driver)

    def call(self, name: str, *arguments: Any) -> None:
        """Calls a function of the runtime.

        Raises:
            CudaError: it did not return success.
        """
        code = getattr(self._library, name)(*arguments)
        if code:
            self._library.cudaGetLastError()  # else the next call would report this error again
            raise CudaError(self._explained(name, code), code)

    def allocate(self, size_bytes: int) -> DeviceBuffer:
        """Memory on the device; at least one byte, so that it always has an address.

        Raises:
            CudaError: there is not enough.
        """
        size = max(size_bytes, 1)
        try:
            return DeviceBuffer(self._made("cudaMalloc", size), size, self._releaser("cudaFree"))
        except CudaError as error:
            raise self._with_memory(error, size) from error

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> PinnedArray:
        """Host memory for fast copies.

        Raises:
            CudaError: there is not enough.
        """
        size = max(int(np.prod(shape)) * np.dtype(dtype).itemsize, 1)
        try:
            return PinnedArray(self._made("cudaHostAlloc", size, 0), shape, dtype, self._releaser("cudaFreeHost"))
        except CudaError as error:
            raise self._with_memory(error, size) from error

    def stream(self) -> Stream:
        """A stream that does not wait for the default one."""
        return Stream(self._made("cudaStreamCreateWithFlags", _NON_BLOCKING), self._releaser("cudaStreamDestroy"))

    def upload(self, address: int, values: NDArray[Any], stream: Stream) -> None:
        """Starts a copy to the device; `values` has to be contiguous and to stay as it is until the stream is done."""
        self.call("cudaMemcpyAsync", address, values.ctypes.data, values.nbytes, _TO_DEVICE, stream.handle)

    def download(self, values: NDArray[Any], address: int, stream: Stream) -> None:
        """Starts a copy into `values`, which has to be contiguous and is filled once the stream is done."""
        self.call("cudaMemcpyAsync", values.ctypes.data, address, values.nbytes, _TO_HOST, stream.handle)

    def copy(self, target: int, source: int, size_bytes: int, stream: Stream) -> None:
        """Starts a copy from one place on the device to another."""
        self.call("cudaMemcpyAsync", target, source, size_bytes, _ON_DEVICE, stream.handle)

    def clear(self, address: int, size_bytes: int, stream: Stream) -> None:
        """Starts to fill memory on the device with zeros."""
        self.call("cudaMemsetAsync", address, 0, size_bytes, stream.handle)

    def wait(self, stream: Stream) -> None:
        """Waits until the stream has done everything.

        Raises:
            CudaError: something in it failed.
        """
        self.call("cudaStreamSynchronize", stream.handle)

    def capture(self, stream: Stream, work: Callable[[], None]) -> Graph:
        """Records what `work` puts into the stream, without doing it.

        Raises:
            CudaError: something in it cannot be captured; the stream is usable again.
        """
        with self._captured(stream, work) as graph:
            made = self._made("cudaGraphInstantiateWithFlags", graph, 0)
        return Graph(made, self._releaser("cudaGraphExecDestroy"))

    def launch(self, graph: Graph, stream: Stream) -> None:
        """Puts everything that was captured into the stream."""
        self.call("cudaGraphLaunch", graph.handle, stream.handle)

    def memory(self) -> tuple[int, int]:
        """Free and all memory of the device, in bytes."""
        free, total = c_size_t(), c_size_t()
        self.call("cudaMemGetInfo", byref(free), byref(total))
        return free.value, total.value

    @contextmanager
    def _captured(self, stream: Stream, work: Callable[[], None]) -> Iterator[int]:
        self.call("cudaStreamBeginCapture", stream.handle, _THIS_THREAD_ONLY)
        try:
            work()
        except BaseException:
            # The capture has to be ended even where it is spoiled, or the stream could never be used again.
            with suppress(CudaError):
                self.call("cudaGraphDestroy", self._ended(stream))
            raise
        graph = self._ended(stream)
        try:
            yield graph
        finally:
            self.call("cudaGraphDestroy", graph)

    def _ended(self, stream: Stream) -> int:
        graph = c_void_p()
        self.call("cudaStreamEndCapture", stream.handle, byref(graph))
        return graph.value or 0

    def _made(self, name: str, *arguments: Any) -> int:
        """Calls a function that gives a new handle as its first argument."""
        handle = c_void_p()
        self.call(name, byref(handle), *arguments)
        return handle.value or 0

    def _releaser(self, name: str) -> Callable[[int], None]:
        return lambda handle: self.call(name, handle)

    def _number(self, name: str, *arguments: Any) -> int:
        number = c_int()
        self.call(name, byref(number), *arguments)
        return number.value

    def _check_devices(self, index: int) -> None:
        try:
            count = self._number("cudaGetDeviceCount")
        except CudaError as error:
            raise CudaError(self._why_no_device(error), error.code) from error
        if not 0 <= index < count:
            raise ConfigError(f"There is no GPU {index}: this process sees {count}, counted from 0.")

    def _why_no_device(self, error: CudaError) -> str:
        runtime, driver = self._versions()
        if error.code == NO_DEVICE:
            return cuda_library.NO_DEVICE
        if error.code == DRIVER_TOO_OLD and driver == "none":
            return cuda_library.NO_DRIVER
        if error.code == DRIVER_TOO_OLD:
            return (
                f"The NVIDIA driver is too old: the CUDA runtime is {runtime}, the driver knows up to CUDA {driver}. "
                f"Update the driver, or install a CUDA runtime {driver.partition('.')[0]} with its TensorRT."
            )
        return str(error)

    def _versions(self) -> tuple[str, str]:
        """CUDA of the runtime and of the driver, "none" without a driver."""
        runtime, driver = self._number("cudaRuntimeGetVersion"), self._number("cudaDriverGetVersion")
        return _version(runtime), _version(driver)

    def _describe(self, index: int, driver: Any | None) -> Device:
        def attribute(number: int) -> int:
            return self._number("cudaDeviceGetAttribute", number, index)

        runtime_cuda, driver_cuda = self._versions()
        capability = attribute(_MAJOR), attribute(_MINOR)
        return Device(
            index=index,
            name=_name(driver, index) or f"NVIDIA GPU of compute capability {capability[0]}.{capability[1]}",
            compute_capability=capability,
            integrated=bool(attribute(_INTEGRATED)),
            multiprocessors=attribute(_MULTIPROCESSORS),
            clock_mhz=self._clock_mhz(index),
            memory_bytes=self.memory()[1],
            driver_cuda=driver_cuda,
            runtime_cuda=runtime_cuda,
        )

    def _clock_mhz(self, index: int) -> int:
        try:
            return self._number("cudaDeviceGetAttribute", _CLOCK_KHZ, index) // 1000
        except CudaError:  # virtual GPUs do not tell
            return 0

    def _explained(self, name: str, code: int) -> str:
        kind, text = (
            value.decode(errors="replace") if value else "unknown"
            for value in (self._library.cudaGetErrorName(code), self._library.cudaGetErrorString(code))
        )
        return f"{name} failed with {kind} ({code}): {text}."

    def _with_memory(self, error: CudaError, size_bytes: int) -> CudaError:
        if error.code != OUT_OF_MEMORY:
            return error
        try:
            free, total = (f"{size / 1e6:.0f} MB" for size in self.memory())
        except CudaError:
            free, total = "an unknown part", "its memory"
        return CudaError(
            f"The GPU is out of memory: {size_bytes / 1e6:.1f} MB were asked for, {free} of {total} are free. "
            f"Close what else uses it, or build with a smaller largest batch (--batch). ({error})",
            error.code,
        )


def open_cuda(index: int = 0, *, found: Iterable[Any] | None = None, driver: Any | None = None) -> Cuda:
    """The first CUDA runtime on this machine that works with its driver.

    Args:
        index: of the GPU.
        found: libraries to try; None looks for them.
        driver: libcuda; None looks for it.

    Raises:
        MimiEdgeError: no runtime library, no driver, one too old, or no GPU.
        ConfigError: no GPU has this index.
    """
    refused: MimiEdgeError | None = None
    for library in libraries() if found is None else found:
        try:
            return Cuda(library, index, driver or driver_library())
        except ConfigError:
            raise
        except MimiEdgeError as error:  # an older runtime may still suit the driver
            refused = refused or error
    raise refused or MimiEdgeError(f"There is no CUDA runtime library (libcudart) here. {install_words()}")


def why_no_gpu() -> str | None:
    """Why nothing can run on a GPU here, None where it can."""
    try:
        open_cuda()
    except MimiEdgeError as error:
        return str(error)
    return None


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}" if number else "none"


def _name(driver: Any | None, index: int) -> str | None:
    if driver is None:
        return None
    device, text = c_int(), ctypes.create_string_buffer(256)
    steps: tuple[Callable[[], int], ...] = (
        lambda: driver.cuInit(0),
        lambda: driver.cuDeviceGet(byref(device), index),
        lambda: driver.cuDeviceGetName(text, len(text), device),
    )
    return None if any(step() for step in steps) else text.value.decode(errors="replace")
