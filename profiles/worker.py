"""The process that one artefact is measured in: opens it, runs it when it has its turn, and answers questions.

Requests come on stdin and replies go to stdout, each a line of JSON; images follow their request as raw bytes. What
libraries print goes to stderr, which the profiler keeps for the message of a failure. The process ends when stdin does,
so it never outlives the profiler. Between requests it waits in a read and takes no CPU.

    {"do": "open", "opening": {...}}                      -> {"host_floor_bytes": ..., "device_floor_bytes": ...}
    {"do": "ready", "batch": 8, "shape": [3, 224, 224], "seed": 0}   -> {}
    {"do": "run", "times": 5}                             -> {"ns": [...]}
    {"do": "busy", "seconds": 4}                          -> {"start_ns": ..., "end_ns": ..., "runs": ...}
    {"do": "classify", "shape": [B, H, W, 3], "preprocessing": {...}} + bytes -> {"classes": [...]}
    {"do": "memory"}                                      -> {"host_peak_bytes": ..., "device_peak_bytes": ...}
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO

from mimi_edge.texts import json_text

if TYPE_CHECKING:
    from mimi_edge.profiles.memory import DeviceMemory
    from mimi_edge.profiles.runtimes.artefact import Run
    from mimi_edge.tasks.stores import Floats

OUT_OF_ORDER = "A worker was asked to run before it was told to open and to be ready. This is a fault in mimi-edge."

Handler = Callable[[Mapping[str, Any], BinaryIO], dict[str, Any]]


@dataclass
class Worker:
    """What the process has open.

    Attributes:
        stack: closes it.
        run: the artefact.
        images: what it is timed on.
        device: memory of the GPU that this process takes.
    """

    stack: ExitStack
    run: Run | None = None
    images: Floats | None = None
    device: DeviceMemory | None = field(default=None)

    def open(self, request: Mapping[str, Any], _: BinaryIO) -> dict[str, Any]:
        """Loads the runtime, notes what that takes, then opens the artefact."""
        from mimi_edge.profiles.memory import device_memory, forget_peak, host_memory
        from mimi_edge.profiles.runtimes.artefact import Opening
        from mimi_edge.profiles.runtimes.protocol import measured_runtime

        opening = Opening.of(request["opening"])
        self.device = device_memory()
        self.device.begin()
        runtime = measured_runtime(opening.backend)
        runtime.load(opening)
        device_floor = self.device.end()
        gc.collect()
        forget_peak()
        floor = host_memory().resident_bytes
        self.device.begin()
        self.run = self.stack.enter_context(runtime.opened(opening))
        self.device.end()
        return {"host_floor_bytes": floor, "device_floor_bytes": device_floor}

    def ready(self, request: Mapping[str, Any], _: BinaryIO) -> dict[str, Any]:
        """Makes images of noise: how long a dense network takes does not depend on what it sees."""
        import numpy as np

        random = np.random.default_rng(request["seed"])
        self.images = random.standard_normal((request["batch"], *request["shape"]), np.float32)
        gc.collect()
        gc.freeze()
        gc.disable()
        return {}

    def take(self, request: Mapping[str, Any], _: BinaryIO) -> dict[str, Any]:
        """A turn."""
        run, images = self._opened()
        return {"ns": self._watched(lambda: timed(run, images, request["times"]))}

    def busy(self, request: Mapping[str, Any], _: BinaryIO) -> dict[str, Any]:
        """Runs over and over for some time."""
        run, images = self._opened()
        started = time.perf_counter_ns()
        end = started + int(request["seconds"] * 1e9)
        runs = 0
        while time.perf_counter_ns() < end:
            run(images)
            runs += 1
        return {"start_ns": started, "end_ns": time.perf_counter_ns(), "runs": runs}

    def classify(self, request: Mapping[str, Any], payload: BinaryIO) -> dict[str, Any]:
        """The best class of each image."""
        import numpy as np

        from mimi_edge.documents import typed
        from mimi_edge.images.preprocessing import Preprocessing, normalise

        preprocessing = typed(request["preprocessing"], Preprocessing)
        images = np.frombuffer(payload.read(int(np.prod(request["shape"]))), np.uint8).reshape(request["shape"])
        if self.run is None:
            raise RuntimeError(OUT_OF_ORDER)
        return {"classes": self.run(normalise(images, preprocessing)).argmax(axis=1).tolist()}

    def memory(self, _request: Mapping[str, Any], _: BinaryIO) -> dict[str, Any]:
        """The most that was taken since it was opened."""
        from mimi_edge.profiles.memory import host_memory

        return {
            "host_peak_bytes": host_memory().peak_bytes,
            "device_peak_bytes": None if self.device is None else self.device.peak_bytes,
        }

    def _opened(self) -> tuple[Run, Floats]:
        if self.run is None or self.images is None:
            raise RuntimeError(OUT_OF_ORDER)
        return self.run, self.images

    def _watched(self, work: Callable[[], list[int]]) -> list[int]:
        """Looks at the GPU's memory before and after, outside of what is timed."""
        if self.device is None:
            return work()
        self.device.begin()
        taken = work()
        self.device.end()
        return taken


def timed(run: Run, images: Floats, times: int) -> list[int]:
    """Nanoseconds of each of so many runs in a row."""
    clock = time.perf_counter_ns
    taken = [0] * times
    for index in range(times):
        started = clock()
        run(images)
        taken[index] = clock() - started
    return taken


def serve(requests: BinaryIO, reply: Callable[[dict[str, Any]], None], handlers: Mapping[str, Handler]) -> None:
    """Answers requests until there are no more; what goes wrong is an answer, too."""
    from mimi_edge.errors import MimiEdgeError

    for line in iter(requests.readline, b""):
        request = json.loads(line)
        try:
            answer = handlers[request["do"]](request, requests)
        except MimiEdgeError as error:
            answer = {"error": str(error)}
        except BaseException as error:  # noqa: BLE001  (whatever it is, the profiler has to hear of it)
            answer = {"error": f"{type(error).__name__}: {error}"}
        reply(answer)


def main() -> None:
    """Serves on stdin and stdout of this process."""
    # A Ctrl-C reaches every process at the terminal; the profiler decides what becomes of this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import faulthandler

    faulthandler.enable()
    requests, replies = os.fdopen(os.dup(0), "rb"), os.dup(1)
    silence = os.open(os.devnull, os.O_RDONLY)
    os.dup2(silence, 0)
    os.dup2(2, 1)
    with ExitStack() as stack:
        worker = Worker(stack)
        handlers: dict[str, Handler] = {
            "open": worker.open,
            "ready": worker.ready,
            "run": worker.take,
            "busy": worker.busy,
            "classify": worker.classify,
            "memory": worker.memory,
        }
        serve(requests, lambda answer: _write(replies, answer), handlers)
        # Whatever a library does when it is torn down, the measurement is over.
        sys.stderr.flush()
        os._exit(0)


def _write(descriptor: int, answer: Mapping[str, Any]) -> None:
    left = (json_text(answer, indent=None) + "\n").encode()
    while left:
        left = left[os.write(descriptor, left) :]
