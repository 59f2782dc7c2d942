"""Runs an engine on one stream, as a CUDA graph where that is possible.

An execution context stays with one set of input shapes: TensorRT keeps state for them that a captured graph relies on.
All contexts work in one piece of scratch memory, one after the other on one stream.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from mimi_edge.errors import ArtifactError, ConfigError, MimiEdgeError
from mimi_edge.events import Listener, Note, silent
from mimi_edge.export.engines.running.cuda import Cuda, CudaError, Graph
from mimi_edge.export.engines.running.owner import Owner
from mimi_edge.export.engines.tensorrt.bindings import Bindings, numpy_dtype
from mimi_edge.export.engines.tensorrt.messages import explain

Shape = tuple[int, ...]
Shapes = tuple[tuple[str, Shape], ...]
"""Name and shape of the inputs whose shape varies."""

GRAPHS = 64
"""Captured graphs that are kept; each takes some device memory, so the one unused for longest goes first."""
CONTEXTS = 8
"""Sets of input shapes that stay ready."""


@dataclass(frozen=True)
class Port:
    """An input or output of an engine.

    Attributes:
        name: of the tensor.
        is_input: whether the engine reads it.
        dtype: of its elements.
        shape: sizes; -1 where it varies.
        smallest: shape of the profile's minimum; of an output, like `shape`.
        largest: shape of the profile's maximum; of an output, what comes out when all inputs are largest.
    """

    name: str
    is_input: bool
    dtype: np.dtype[Any]
    shape: Shape
    smallest: Shape
    largest: Shape

    @property
    def largest_bytes(self) -> int:
        """Room for the largest."""
        return math.prod(self.largest) * self.dtype.itemsize


@dataclass(frozen=True)
class Call:
    """One way of running an engine.

    Attributes:
        key: names this call; two calls with one key have the same shapes and addresses.
        shapes: of the inputs whose shape varies.
        addresses: of every input and output, on the device.
    """

    key: Hashable
    shapes: Shapes
    addresses: Mapping[str, int]


@dataclass(frozen=True)
class Plan:
    """What an engine is loaded from; check where its bytes come from first.

    Attributes:
        bindings: of the TensorRT that built it.
        content: bytes of the plan.
        cuda: the device.
        name: of the engine, for messages.
        graphs: captured CUDA graphs to keep, one for each way of calling that is used in turns; 0 captures none.
        listener: hears it where graphs cannot be used.
    """

    bindings: Bindings
    content: Any
    cuda: Cuda
    name: str = "the engine"
    graphs: int = GRAPHS
    listener: Listener = silent


class Executor(Owner):
    """An engine that is loaded, with its stream. A context manager.

    Attributes:
        cuda: the device.
        stream: that everything runs on.
        engine: TensorRT's `ICudaEngine`.
        loaded_bytes: device memory that loading took: weights, and what the library needs once.
        scratch_bytes: device memory that kernels work in.
        why_no_graphs: why calls are not captured; None while they are.
    """

    def __init__(self, plan: Plan) -> None:
        """Loads an engine.

        Raises:
            ArtifactError: the plan is damaged, or for another GPU or version.
            MimiEdgeError: there is not enough memory.
        """
        self.bindings, self.cuda, self.name = plan.bindings, plan.cuda, plan.name
        self.why_no_graphs: str | None = None if plan.graphs else "switched off"
        self._most_graphs, self._listener = plan.graphs, plan.listener
        self._contexts: OrderedDict[Shapes, Any] = OrderedDict()
        self._graphs: OrderedDict[Hashable, tuple[Shapes, Graph]] = OrderedDict()
        self._bound: dict[Shapes, Hashable] = {}
        with ExitStack() as stack:
            self.stream = stack.enter_context(plan.cuda.stream())
            self._load(plan.content)
            stack.callback(self._unload)
            self.scratch_bytes = plan.bindings.device_memory_bytes(self.engine)
            self._scratch = stack.enter_context(plan.cuda.allocate(self.scratch_bytes))
            stack.push(self._leave)
            self.ports = self._read_ports()
            self._stack = stack.pop_all()

    def launch(self, call: Call) -> None:
        """Starts the call on the stream; a call with a known key costs one launch of its graph.

        Raises:
            MimiEdgeError: TensorRT refuses it.
        """
        kept = self._graphs.get(call.key)
        if kept is not None:
            self._graphs.move_to_end(call.key)
            self.cuda.launch(kept[1], self.stream)
            return
        context = self._prepared(call)
        self._enqueue(context)
        if self.why_no_graphs is None:
            # The ordinary run just before is needed: TensorRT finishes its preparations for new addresses in it.
            self._keep_graph(call, context)

    def wait(self) -> None:
        """Waits until everything on the stream is done.

        Raises:
            CudaError: something failed on the device.
        """
        self.cuda.wait(self.stream)

    def settle(self, _kind: Any, error: BaseException | None, _trace: Any) -> None:
        """Waits before memory goes that may still be in use; not after an error, when waiting would only fail too."""
        if error is None:
            self.wait()

    def port(self, name: str) -> Port:
        """The input or output of this name.

        Raises:
            ArtifactError: there is none.
        """
        for port in self.ports:
            if port.name == name:
                return port
        names = ", ".join(port.name for port in self.ports)
        raise ArtifactError(f"{self.name} has no tensor {name}, only {names}. Export the engine again.")

    @property
    def inputs(self) -> tuple[Port, ...]:
        """What it reads."""
        return tuple(port for port in self.ports if port.is_input)

    @property
    def outputs(self) -> tuple[Port, ...]:
        """What it writes."""
        return tuple(port for port in self.ports if not port.is_input)

    def varying(self, shapes: Mapping[str, Shape]) -> Shapes:
        """Those of the shapes that TensorRT has to be told."""
        return tuple((name, shape) for name, shape in shapes.items() if -1 in self.port(name).shape)

    def output_shapes(self, shapes: Shapes) -> dict[str, Shape]:
        """Shapes of the outputs for these shapes of the inputs."""
        context = self._context(shapes)
        return {port.name: tuple(int(size) for size in context.get_tensor_shape(port.name)) for port in self.outputs}

    def forget_graphs(self, which: Callable[[Hashable], bool] = lambda _key: True) -> None:
        """Drops captured graphs, by their keys; needed when their addresses or weights change."""
        self.wait()
        for key in [key for key in self._graphs if which(key)]:
            self._graphs.pop(key)[1].close()
        for shapes in [shapes for shapes, key in self._bound.items() if which(key)]:
            del self._bound[shapes]

    @property
    def graph_count(self) -> int:
        """Captured graphs at the moment."""
        return len(self._graphs)

    # Loading.

    def _load(self, plan: Any) -> None:
        before, _ = self.cuda.memory()
        self._runtime = self.bindings.runtime()
        self.engine = self.bindings.deserialize(self._runtime, plan, self.name)
        self.loaded_bytes = max(before - self.cuda.memory()[0], 0)

    def _unload(self) -> None:
        """The engine goes before the runtime that it came from."""
        self.engine = None
        self._runtime = None

    def _read_ports(self) -> tuple[Port, ...]:
        tensors = self.bindings.engine_tensors(self.engine)
        ranges = {tensor.name: self._range(tensor.name, tensor.shape) for tensor in tensors if tensor.mode == "input"}
        self.ports = tuple(
            Port(tensor.name, tensor.mode == "input", numpy_dtype(tensor.dtype), tensor.shape, (), ())
            for tensor in tensors
        )
        largest = self.output_shapes(self.varying({name: high for name, (_, high) in ranges.items()}))
        ranges |= {name: (self.port(name).shape, shape) for name, shape in largest.items()}
        return tuple(Port(port.name, port.is_input, port.dtype, port.shape, *ranges[port.name]) for port in self.ports)

    def _range(self, name: str, shape: Shape) -> tuple[Shape, Shape]:
        """Smallest and largest shape of an input in the first profile."""
        if min(shape, default=0) >= 0:
            return shape, shape
        low, _, high = self.engine.get_tensor_profile_shape(name, 0)
        return tuple(int(size) for size in low), tuple(int(size) for size in high)

    # Running.

    def _prepared(self, call: Call) -> Any:
        """The context of the call's shapes, with its addresses set."""
        context = self._context(call.shapes)
        if self._bound.get(call.shapes) != call.key:
            self._bound.pop(call.shapes, None)
            self._ask("set addresses", lambda: all(_set_addresses(context, call.addresses.items())))
            self._bound[call.shapes] = call.key
        return context

    def _context(self, shapes: Shapes) -> Any:
        if shapes not in self._contexts:
            if len(self._contexts) >= CONTEXTS:
                self._drop_context(next(iter(self._contexts)))
            self._contexts[shapes] = self._made_context(shapes)
        self._contexts.move_to_end(shapes)
        return self._contexts[shapes]

    def _made_context(self, shapes: Shapes) -> Any:
        context = self.bindings.execution_context(self.engine, own_memory=False)
        if self.scratch_bytes:
            context.set_device_memory(self._scratch.handle, self._scratch.size_bytes)
        for name, shape in shapes:
            self._ask(f"take {name} {list(shape)}", partial(context.set_input_shape, name, shape))
        return context

    def _drop_context(self, shapes: Shapes) -> None:
        self.wait()
        for key in [key for key, (of_graph, _) in self._graphs.items() if of_graph == shapes]:
            self._graphs.pop(key)[1].close()
        self._bound.pop(shapes, None)
        del self._contexts[shapes]

    def _enqueue(self, context: Any) -> None:
        self._ask("run", lambda: context.execute_async_v3(self.stream.handle))

    def _ask(self, doing: str, work: Callable[[], bool]) -> None:
        """Does what TensorRT answers with a bool, and explains a False."""
        with self.bindings.listening() as log:
            if not work():
                raise explain(log, f"{doing} with {self.name}")

    # Graphs.

    def _keep_graph(self, call: Call, context: Any) -> None:
        self.wait()
        if not self.bindings.can_capture(context, self.stream.handle):
            return self._give_up_graphs("TensorRT cannot capture this engine")
        try:
            graph = self.cuda.capture(self.stream, lambda: self._enqueue(context))
        except ConfigError:
            raise
        except MimiEdgeError as error:
            return self._give_up_graphs(str(error))
        while len(self._graphs) >= self._most_graphs:
            self._graphs.popitem(last=False)[1][1].close()
        self._graphs[call.key] = (call.shapes, graph)
        return None

    def _give_up_graphs(self, why: str) -> None:
        """The answer is right without a graph, only later by the time of launching every kernel by itself."""
        self.why_no_graphs = why
        self._listener(Note(f"{self.name} runs without CUDA graphs: {why}"))

    def _leave(self, _kind: Any, error: BaseException | None, _trace: Any) -> None:
        """Drops contexts and graphs once nothing runs any more; an error that is on its way already stays the one."""
        try:
            self.wait()
        except CudaError:
            if error is None:
                raise
        finally:
            self._forget_everything()

    def _forget_everything(self) -> None:
        for _, graph in self._graphs.values():
            with suppress(CudaError):
                graph.close()
        self._graphs.clear()
        self._bound.clear()
        self._contexts.clear()


def _set_addresses(context: Any, addresses: Iterable[tuple[str, int]]) -> Iterable[bool]:
    return (context.set_tensor_address(name, address) for name, address in addresses)
