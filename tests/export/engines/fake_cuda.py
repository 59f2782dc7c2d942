"""A CUDA runtime on host memory, as strict as the real one may be.

Work waits in its stream until somebody synchronises, so whoever reads too early reads garbage, and whoever frees too
early is found out. `check()` at a test's end tells of every wrong use and of everything that was not given back.
"""

from __future__ import annotations

import ctypes
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from mimi_edge.export.engines.running.cuda import Cuda
from mimi_edge.export.engines.running.cuda_library import SIGNATURES

ALIGNMENT = 256
GARBAGE = 0xFF
"""Bytes of new memory: not a number in every float format."""
NAMES = {
    2: ("cudaErrorMemoryAllocation", "out of memory"),
    35: ("cudaErrorInsufficientDriver", "CUDA driver version is insufficient for CUDA runtime version"),
    100: ("cudaErrorNoDevice", "no CUDA-capable device is detected"),
    700: ("cudaErrorIllegalAddress", "an illegal memory access was encountered"),
    900: ("cudaErrorStreamCaptureUnsupported", "operation not permitted when stream is capturing"),
    901: ("cudaErrorStreamCaptureInvalidated", "operation failed due to a previous error during capture"),
    999: ("cudaErrorUnknown", "unknown error"),
}
UNSUPPORTED, INVALIDATED, UNKNOWN = 900, 901, 999
ATTRIBUTES = {13: 1_300_000, 16: 16, 18: 1, 75: 8, 76: 7}

Work = Callable[[], None]


class MisuseError(Exception):
    """Something that a real GPU would crash on."""


class RefusedError(Exception):
    """An error code that the runtime gives."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@dataclass
class Memory:
    """One piece of memory."""

    size: int
    on_device: bool
    buffer: Any


@dataclass
class FakeStream:
    """Work that was put in and not done yet, or that is being captured."""

    waiting: list[Work] = field(default_factory=list)
    captured: list[Work] | None = None
    spoiled: bool = False


@dataclass
class FakeCuda:
    """The runtime.

    Attributes:
        devices: how many there are.
        driver: version as a number, 0 for none.
        runtime: version as a number.
        memory_bytes: of the device.
        fail: function name -> codes of its next calls; 0 lets one through.
        calls: how often each function was called.
        faults: what was done wrong.
        capturable: whether TensorRT for RTX says that its work can be captured.
        clock_ms: time by the device's clock; each piece of work takes a quarter.
    """

    devices: int = 1
    driver: int = 12060
    runtime: int = 12060
    memory_bytes: int = 1_000_000_000
    fail: dict[str, list[int]] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    capturable: bool = True
    clock_ms: float = 0.0
    live: dict[int, Memory] = field(default_factory=dict)
    streams: dict[int, FakeStream] = field(default_factory=dict)
    graphs: dict[int, list[Work]] = field(default_factory=dict)
    programs: dict[int, list[Work]] = field(default_factory=dict)
    reserved: int = 0
    last_handle: int = 4096

    def __post_init__(self) -> None:
        methods = {name: getattr(self, _snake(name)) for name in SIGNATURES}
        self.library = SimpleNamespace(
            cudaGetErrorName=lambda code: NAMES.get(code, ("cudaError?", ""))[0].encode(),
            cudaGetErrorString=lambda code: NAMES.get(code, ("", "?"))[1].encode(),
            **{name: self._exported(name, method) for name, method in methods.items()},
        )

    def open(self) -> Cuda:
        return Cuda(self.library)

    def check(self) -> None:
        """Nothing was done wrong, and everything was given back."""
        left = {
            "memory": [memory.size for memory in self.live.values()],
            "streams": list(self.streams),
            "graphs": [*self.graphs, *self.programs],
            "weights": [self.reserved] if self.reserved else [],
        }
        assert self.faults == []
        assert {kind: things for kind, things in left.items() if things} == {}

    # For the fake TensorRT.

    def put(self, stream: int, work: Work) -> None:
        """Puts work into a stream, or into its capture."""
        found = self.streams[stream]
        (found.waiting if found.captured is None else found.captured).append(work)

    def is_capturing(self, stream: int) -> bool:
        return self.streams[stream].captured is not None

    def on_device(self, address: int, size: int) -> Any:
        """Memory on the device that may be read and written.

        Raises:
            MisuseError: it is not there, or not all of it.
        """
        return self._memory(address, size, on_device=True)

    @property
    def used_bytes(self) -> int:
        return self.reserved + sum(memory.size for memory in self.live.values() if memory.on_device)

    # What the library does.

    def runtime_get_version(self, out: Any) -> None:
        out[0] = self.runtime

    def driver_get_version(self, out: Any) -> None:
        out[0] = self.driver

    def get_device_count(self, out: Any) -> None:
        if self.driver < self.runtime // 1000 * 1000:
            raise RefusedError(35)
        if not self.devices:
            raise RefusedError(100)
        out[0] = self.devices

    def set_device(self, index: int) -> None:
        self._must(0 <= index < self.devices, f"device {index} was set")

    def device_get_attribute(self, out: Any, number: int, device: int) -> None:
        out[0] = ATTRIBUTES[number]

    def device_synchronize(self) -> None:
        self._drain()

    def get_last_error(self) -> None:
        pass

    def mem_get_info(self, free: Any, total: Any) -> None:
        free[0], total[0] = self.memory_bytes - self.used_bytes, self.memory_bytes

    def malloc(self, out: Any, size: int) -> None:
        self._no_capture()
        if self.used_bytes + size > self.memory_bytes:
            raise RefusedError(2)
        out[0] = self._allocated(size, on_device=True)

    def host_alloc(self, out: Any, size: int, flags: int) -> None:
        self._no_capture()
        out[0] = self._allocated(size, on_device=False)

    def free(self, address: int) -> None:
        self._freed(address, on_device=True)

    def free_host(self, address: int) -> None:
        self._freed(address, on_device=False)

    def memcpy_async(self, target: int, source: int, size: int, kind: int, stream: int) -> None:
        to_device, from_device = kind in {1, 3}, kind in {2, 3}
        pinned = (to_device or self._is_pinned(target)) and (from_device or self._is_pinned(source))
        if self.is_capturing(stream) and not pinned:
            self._spoil(stream)

        def work() -> None:
            for address, on_device in ((target, to_device), (source, from_device)):
                if on_device:
                    self.on_device(address, size)
            ctypes.memmove(target, source, size)

        self.put(stream, work)

    def memset_async(self, address: int, value: int, size: int, stream: int) -> None:
        self.put(stream, lambda: ctypes.memset(self.on_device(address, size), value, size) and None)

    def stream_create_with_flags(self, out: Any, flags: int) -> None:
        self._must(flags == 1, "the stream waits for the default stream")
        out[0] = self._new(self.streams, FakeStream())

    def stream_destroy(self, stream: int) -> None:
        self._drain()
        del self.streams[stream]

    def stream_synchronize(self, stream: int) -> None:
        if self.is_capturing(stream):
            self._spoil(stream)
        self._drain()

    def stream_begin_capture(self, stream: int, mode: int) -> None:
        self._must(not self.is_capturing(stream), "captured twice at once")
        self.streams[stream].captured = []

    def stream_end_capture(self, stream: int, out: Any) -> None:
        found = self.streams[stream]
        captured, spoiled = found.captured, found.spoiled
        found.captured, found.spoiled = None, False
        if spoiled or captured is None:
            raise RefusedError(INVALIDATED)
        out[0] = self._new(self.graphs, captured)

    def graph_instantiate_with_flags(self, out: Any, graph: int, flags: int) -> None:
        out[0] = self._new(self.programs, list(self.graphs[graph]))

    def graph_launch(self, program: int, stream: int) -> None:
        for work in self.programs[program]:
            self.put(stream, work)

    def graph_destroy(self, graph: int) -> None:
        del self.graphs[graph]

    def graph_exec_destroy(self, program: int) -> None:
        del self.programs[program]

    # Inside.

    def _exported(self, name: str, method: Callable[..., None]) -> Any:
        """The method as a C function, so that arguments take the way they take to the real library."""

        def call(*arguments: Any) -> int:
            self.calls[name] += 1
            planned = self.fail.get(name)
            if planned and (code := planned.pop(0)):
                if name == "cudaStreamEndCapture":  # that it fails does not keep it from ending
                    self.streams[arguments[0]].captured = None
                return code
            with self._told(name) as outcome:
                method(*arguments)
            return outcome[0]

        return ctypes.CFUNCTYPE(ctypes.c_int, *SIGNATURES[name])(call)

    @contextmanager
    def _told(self, name: str) -> Iterator[list[int]]:
        """Turns what goes wrong into the code that the function returns."""
        outcome = [0]
        try:
            yield outcome
        except RefusedError as refused:
            outcome[0] = refused.code
        except Exception as error:  # noqa: BLE001  (kept for `check`)
            self.faults.append(f"{name}: {error!r}")
            outcome[0] = UNKNOWN

    def _new(self, table: dict[int, Any], thing: Any) -> int:
        self.last_handle += 1
        table[self.last_handle] = thing
        return self.last_handle

    def _allocated(self, size: int, *, on_device: bool) -> int:
        buffer = ctypes.create_string_buffer(size + ALIGNMENT)
        ctypes.memset(buffer, GARBAGE, size + ALIGNMENT)
        address = -(-ctypes.addressof(buffer) // ALIGNMENT) * ALIGNMENT
        self.live[address] = Memory(size, on_device, buffer)
        return address

    def _freed(self, address: int, *, on_device: bool) -> None:
        self._drain()
        found = self.live.get(address)
        self._must(found is not None and found.on_device == on_device, "freed twice, or never allocated")
        del self.live[address]

    def _memory(self, address: int, size: int, *, on_device: bool) -> Any:
        for start, memory in self.live.items():
            if memory.on_device == on_device and start <= address and address + size <= start + memory.size:
                return address
        raise MisuseError(f"{size} bytes at {address} are not allocated")

    def _is_pinned(self, address: int) -> bool:
        return any(
            not memory.on_device and start <= address < start + memory.size for start, memory in self.live.items()
        )

    def _drain(self) -> None:
        for stream in self.streams.values():
            while stream.waiting:
                stream.waiting.pop(0)()
                self.clock_ms += 0.25

    def _no_capture(self) -> None:
        for handle in self.streams:
            if self.is_capturing(handle):
                self._spoil(handle)

    def _spoil(self, stream: int) -> None:
        self.streams[stream].spoiled = True
        raise RefusedError(UNSUPPORTED)

    def _must(self, holds: bool, otherwise: str) -> None:
        if not holds:
            raise MisuseError(otherwise)


def _snake(name: str) -> str:
    """The method that is cudaMemGetInfo is mem_get_info."""
    return re.sub(r"(?<!^)([A-Z])", r"_\1", name[len("cuda") :]).lower()
