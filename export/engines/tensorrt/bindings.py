"""TensorRT as the rest of the code sees it: the one module that knows what differs between its versions.

From 10.3 to 11.4, and TensorRT for RTX. Everything is found out by asking for attributes, nothing by comparing version
numbers.
"""

from __future__ import annotations

import ctypes
import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mimi_edge.choices import Backend
from mimi_edge.errors import ConfigError, EngineBuildError, MimiEdgeError
from mimi_edge.export.engines.running.cuda_library import why_no_driver
from mimi_edge.export.engines.tensorrt.libraries import import_bindings, installed_backend
from mimi_edge.export.engines.tensorrt.logs import EngineLog, LogRelay
from mimi_edge.export.engines.tensorrt.messages import explain
from mimi_edge.export.engines.tensorrt.tensors import EngineTensor
from mimi_edge.installation import is_tegra, pip_line
from mimi_edge.runtimes import runtime_of
from mimi_edge.texts import fault_list

if TYPE_CHECKING:
    import numpy as np

DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "BF16": "bfloat16",
    "INT8": "int8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
    "UINT8": "uint8",
}
"""TensorRT's name of a data type and ours, which is numpy's."""
TENSORRT_DTYPES = {ours: theirs for theirs, ours in DTYPES.items()}

NEEDED = (
    ("NetworkDefinitionCreationFlag", "STRONGLY_TYPED"),
    ("INetworkDefinition", "mark_weights_refittable"),
    ("IProgressMonitor", "step_complete"),
    ("IExecutionContext", "execute_async_v3"),
    ("OnnxParser", "parse_from_file"),
)
"""What every TensorRT from 10 on has."""


class PhaseListener(Protocol):
    """Hears how far a build is."""

    def phase_start(self, name: str, parent: str | None, steps: int) -> None:
        """A phase of so many steps begins inside another one, or by itself."""

    def step_complete(self, name: str, step: int) -> bool:
        """A step of a phase is done; False stops the build."""

    def phase_finish(self, name: str) -> None:
        """A phase ended."""


@dataclass(frozen=True)
class Bindings:
    """TensorRT's Python module, loaded, and what is asked of it.

    Attributes:
        module: the module itself.
        backend: one of `ENGINE_BACKENDS`.
        version: of the module, like "10.3.0".
        logger: the one `ILogger` of this module; use `listening` to hear what it gets.
        relay: who hears it.
        why_no_driver: says why there is no driver, None where there is one.
    """

    module: Any
    backend: Backend
    version: str
    logger: Any
    relay: LogRelay
    why_no_driver: Callable[[], str | None] = why_no_driver

    @property
    def name(self) -> str:
        """What people call it, with its version."""
        return f"{runtime_of(self.backend).name} {self.version}"

    @contextmanager
    def listening(self) -> Iterator[EngineLog]:
        """Gives a log that keeps TensorRT's errors and warnings until the block ends."""
        log = EngineLog()
        self.relay.listening.append(log)
        try:
            yield log
        finally:
            self.relay.listening[:] = [other for other in self.relay.listening if other is not log]

    # Building.

    def builder(self) -> Any:
        """A new `Builder`.

        Raises:
            MimiEdgeError: there is no driver, or the libraries do not fit; the message says what to do.
        """
        # TensorRT for RTX makes code for GPUs that are named; the other times its kernels on the one that is here.
        if not self.capabilities():
            self._require_driver("start TensorRT's builder")
        return self._started(self.module.Builder, "start TensorRT's builder")

    def network(self, builder: Any) -> Any:
        """An empty strongly typed `INetworkDefinition`."""
        return builder.create_network(1 << int(self.module.NetworkDefinitionCreationFlag.STRONGLY_TYPED))

    def parse(self, network: Any, graph: Path) -> Any:
        """Reads an ONNX graph and the weights beside it into a network.

        Returns:
            The `OnnxParser`. It owns the weights: keep it until the engine is built.

        Raises:
            EngineBuildError: it holds what TensorRT does not take; every fault is listed with its node.
        """
        parser = self.module.OnnxParser(network, self.logger)
        with self.listening() as log:
            taken = parser.parse_from_file(str(graph))
        faults = [_parser_fault(parser.get_error(index)) for index in range(parser.num_errors)]
        if not taken and not faults:
            raise explain(log, f"read {graph.name}", EngineBuildError)
        if not taken:
            raise EngineBuildError(
                f"{self.name} does not take {graph.name}:\n{fault_list(faults)}\nExport the task again."
            )
        return parser

    def has_flag(self, name: str) -> bool:
        """Whether there is a `BuilderFlag` of this name."""
        return hasattr(self.module.BuilderFlag, name)

    def flag(self, name: str) -> Any:
        """The `BuilderFlag` of this name.

        Raises:
            EngineBuildError: this version has none.
        """
        if not self.has_flag(name):
            raise EngineBuildError(f"{self.name} cannot do this: it has no builder flag {name}. Use another version.")
        return getattr(self.module.BuilderFlag, name)

    def keep_fp32_exact(self, config: Any) -> None:
        """Keeps fp32 from being computed in TF32, which is what TensorRT does by default and has 10 bits like fp16."""
        config.clear_flag(self.module.BuilderFlag.TF32)

    def limit_workspace(self, config: Any, size_bytes: int) -> None:
        """Sets how much device memory kernels may use to work in."""
        config.set_memory_pool_limit(self.module.MemoryPoolType.WORKSPACE, size_bytes)

    def keep_layer_details(self, config: Any) -> None:
        """Makes the engine remember its layers, so that `layers` can tell more than their names."""
        config.profiling_verbosity = self.module.ProfilingVerbosity.DETAILED

    def allow_capture(self, config: Any) -> None:
        """Makes the engine one whose runs can become CUDA graphs: TensorRT for RTX has to be told when it builds."""
        if self.has_flag("REQUIRE_USER_ALLOCATION"):
            config.set_flag(self.flag("REQUIRE_USER_ALLOCATION"))

    def capabilities(self) -> tuple[str, ...]:
        """Compute capabilities that can be built for without such a GPU, like "8.6"; none in TensorRT itself."""
        known = getattr(self.module, "ComputeCapability", None)
        names = [name[2:] for name in dir(known) if name.startswith("SM") and name[2:].isdigit()]
        return tuple(f"{digits[:-1]}.{digits[-1]}" for digits in sorted(names, key=int))

    def set_capabilities(self, config: Any, wanted: Sequence[str]) -> None:
        """Makes a build be for these compute capabilities instead of for the GPU that is here.

        Raises:
            ConfigError: it cannot be built for one of them.
        """
        known = self.capabilities()
        unknown = [one for one in wanted if one not in known]
        if unknown:
            raise ConfigError(
                f"{self.name} cannot build for compute capability {', '.join(unknown)}; "
                + (f"it knows {', '.join(known)}." if known else "it builds for the GPU that is here, so name none.")
            )
        config.num_compute_capabilities = len(wanted)
        for index, one in enumerate(wanted):
            config.set_compute_capability(getattr(self.module.ComputeCapability, f"SM{one.replace('.', '')}"), index)

    def mark_refittable(self, network: Any, names: Iterable[str]) -> None:
        """Lets these weights, and no others, be replaced in the built engine.

        Raises:
            EngineBuildError: the network has no weights of one of these names.
        """
        wrong = [name for name in sorted(names) if not network.mark_weights_refittable(name)]
        wrong += [name for name in sorted(names) if name not in wrong and not self.is_refittable(network, name)]
        if wrong:
            raise EngineBuildError(f"{self.name} cannot make these weights refittable: {', '.join(wrong[:10])}.")

    def is_refittable(self, network: Any, name: str) -> bool:
        """Whether weights of a network were marked."""
        return bool(network.are_weights_marked_refittable(name))

    def progress_monitor(self, listener: PhaseListener) -> Any:
        """An `IProgressMonitor` that passes everything on."""
        return _monitor_class(self.module)(listener)

    def has_timing_caches(self, config: Any) -> bool:
        """Whether timing caches do anything; where code is made for GPUs that are not here, nothing is timed."""
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            config.set_timing_cache(config.create_timing_cache(b""), False)
        return not any(issubclass(warning.category, DeprecationWarning) for warning in heard)

    def timing_cache(self, config: Any, content: bytes) -> Any | None:
        """A timing cache from bytes (none of them: an empty one); None where TensorRT does not take them."""
        try:
            return config.create_timing_cache(content)
        except (RuntimeError, TypeError):
            return None

    def build(self, builder: Any, network: Any, config: Any) -> Any | None:
        """A plan, as an object with a buffer; None where the build failed or was stopped."""
        try:
            return builder.build_serialized_network(network, config)
        except (RuntimeError, TypeError, MemoryError):
            return None

    # Running.

    def runtime(self) -> Any:
        """A new `Runtime`.

        Raises:
            MimiEdgeError: there is no driver, or the libraries do not fit.
        """
        self._require_driver("start TensorRT's runtime")
        return self._started(self.module.Runtime, "start TensorRT's runtime")

    def deserialize(self, runtime: Any, plan: Any, engine: str) -> Any:
        """An `ICudaEngine` from the bytes of a plan; check where they come from first.

        Args:
            runtime: of `runtime()`; it must live as long as the engine.
            plan: anything with bytes.
            engine: how messages call it.

        Raises:
            ArtifactError: the plan is for another GPU or another version, or damaged.
            MimiEdgeError: no driver, or no memory.
        """
        return self._made(lambda: runtime.deserialize_cuda_engine(plan), f"load {engine}")

    def engine_tensors(self, engine: Any) -> tuple[EngineTensor, ...]:
        """Inputs and outputs of an engine, in its order."""
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        return tuple(
            EngineTensor(
                name,
                "input" if engine.get_tensor_mode(name) == self.module.TensorIOMode.INPUT else "output",
                self.dtype_name(engine.get_tensor_dtype(name)),
                tuple(int(size) for size in engine.get_tensor_shape(name)),
            )
            for name in names
        )

    def execution_context(self, engine: Any, *, own_memory: bool = True) -> Any:
        """A new `IExecutionContext`.

        Args:
            engine: to run.
            own_memory: False: it gets its device memory by `context.set_device_memory(address, size_bytes)`.

        Raises:
            MimiEdgeError: no memory on the device.
        """
        kinds = self.module.ExecutionContextAllocationStrategy
        how = self._context_options(engine, kinds.STATIC if own_memory else kinds.USER_MANAGED)
        doing = "make room for running the engine" if own_memory else "prepare the engine"
        return self._made(lambda: engine.create_execution_context(how), doing)

    def _context_options(self, engine: Any, allocation: Any) -> Any:
        """How a context gets its memory, and, where kernels are made for each shape, that they are made at once.

        TensorRT for RTX answers by a general kernel until one for the shape is there: bits change from run to run, and
        a captured graph keeps the slow kernel for ever.
        """
        kinds = getattr(self.module, "DynamicShapesKernelSpecializationStrategy", None)
        if kinds is None:
            return allocation
        config = engine.create_runtime_config()
        config.dynamic_shapes_kernel_specialization_strategy = kinds.EAGER
        config.set_execution_context_allocation_strategy(allocation)
        return config

    def can_capture(self, context: Any, stream: int) -> bool:
        """Whether a run can become a CUDA graph; TensorRT for RTX knows, TensorRT itself always may be asked to."""
        known = getattr(context, "is_stream_capturable", None)
        return known is None or bool(known(stream))

    def device_memory_bytes(self, engine: Any) -> int:
        """Device memory that an execution context needs, weights aside."""
        newer = getattr(engine, "device_memory_size_v2", None)
        return int(engine.device_memory_size if newer is None else newer)

    def refitter(self, engine: Any) -> Any:
        """A new `Refitter`."""
        return self._made(lambda: self.module.Refitter(engine, self.logger), "prepare the engine for other weights")

    def weights(self, values: np.ndarray[Any, Any]) -> Any:
        """`Weights` that point to an array, which must be contiguous and stay alive as long as they are used.

        By address and size: given an array, some versions misread its strides with numpy 2, and none knows bfloat16.

        Raises:
            ValueError: the array is not contiguous.
        """
        if not values.flags.c_contiguous:
            raise ValueError(f"weights must be contiguous, got strides {values.strides} for shape {values.shape}")
        data_type = getattr(self.module.DataType, TENSORRT_DTYPES[values.dtype.name])
        return self.module.Weights(data_type, values.ctypes.data, values.size)

    def layers(self, engine: Any) -> list[Any]:
        """What the engine inspector says of each layer: a name, or a table where details were kept."""
        inspector = engine.create_engine_inspector()
        document = json.loads(inspector.get_engine_information(self.module.LayerInformationFormat.JSON))
        return list(document["Layers"])

    # Data types.

    def dtype_name(self, data_type: Any) -> str:
        """Our name of a `DataType`, like "float16".

        Raises:
            MimiEdgeError: it is one that no engine of ours has.
        """
        if data_type.name not in DTYPES:
            raise MimiEdgeError(f"A tensor has data type {data_type.name}; engines of mimi-edge have none such.")
        return DTYPES[data_type.name]

    def numpy_dtype(self, data_type: Any) -> np.dtype[Any]:
        """Of a `DataType`; bfloat16 comes from ml_dtypes."""
        return numpy_dtype(self.dtype_name(data_type))

    def _require_driver(self, doing: str) -> None:
        """Looks for a driver before TensorRT does: up to 10.6 it ends the process where there is none."""
        if (why := self.why_no_driver()) is not None:
            raise MimiEdgeError(f"Cannot {doing} ({self.name}). {why}")

    def _started(self, kind: Any, doing: str) -> Any:
        """A builder or a runtime.

        Without a driver, TensorRT 10.15 gives a runtime that is an empty shell: to use it, and even to let go of it,
        ends the process. So one that complained while it was made is kept and not used.
        """
        with self.listening() as log:
            try:
                started = kind(self.logger)
            except (RuntimeError, TypeError):
                started = None
        is_shell = started is not None and any("cuda" in text.lower() for text in log.errors)
        if is_shell:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(started))
        if started is None or is_shell:
            raise explain(log, doing)
        return started

    def _made(self, make: Callable[[], Any], doing: str) -> Any:
        """What `make` gives; TensorRT raises or gives None where it fails, and says why in its log."""
        with self.listening() as log:
            try:
                made = make()
            except (RuntimeError, TypeError, MemoryError):
                made = None
        if made is None:
            raise explain(log, doing)
        return made


def numpy_dtype(name: str) -> np.dtype[Any]:
    """Of a data type by our name of it; bfloat16 comes from ml_dtypes."""
    import numpy as np

    if name == "bfloat16":
        import ml_dtypes

        half: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return half
    return np.dtype(name)


def load_bindings(backend: Backend | None = None) -> Bindings:
    """Loads TensorRT, once a process.

    Args:
        backend: one of `ENGINE_BACKENDS`; None takes TensorRT where it is installed, else TensorRT for RTX.

    Raises:
        ConfigError: the backend has no engines.
        MimiEdgeError: it is not installed, its libraries are missing or of another version, or it is too old; the
            message says what to install.
    """
    return _loaded(installed_backend() if backend is None else backend)


@cache
def _loaded(backend: Backend) -> Bindings:
    return bindings_of(import_bindings(backend), backend)


def _newer() -> str:
    """How to come by a newer TensorRT."""
    return "upgrade to JetPack 6.2 or newer." if is_tegra() else pip_line('install --upgrade "tensorrt>=10.3"')


def bindings_of(module: Any, backend: Backend, *, why_no_driver: Callable[[], str | None] = why_no_driver) -> Bindings:
    """Wraps a loaded module.

    Args:
        module: TensorRT's.
        backend: which of the two it is.
        why_no_driver: says why there is no driver, None where there is one.

    Raises:
        MimiEdgeError: it is too old.
    """
    version = str(getattr(module, "__version__", "of unknown version"))
    lacking = [f"{owner}.{name}" for owner, name in NEEDED if not hasattr(getattr(module, owner, None), name)]
    if lacking:
        raise MimiEdgeError(
            f"TensorRT {version} is too old: it has no {', '.join(lacking)}. mimi-edge needs TensorRT 10.3 or newer: "
            f"{_newer()}"
        )
    relay = LogRelay()
    return Bindings(module, backend, version, _logger_class(module)(relay), relay, why_no_driver)


def _logger_class(module: Any) -> Any:
    least = int(module.ILogger.Severity.WARNING)

    class Logger(module.ILogger):  # type: ignore[misc]
        """Must not raise: TensorRT would end the process.

        A logger written in Python hears everything, thousands of messages a build: no version lets it name a level, and
        `trt.Logger`, which has one, never calls Python. So what nobody will read is turned away by its number.
        """

        def __init__(self, relay: LogRelay) -> None:
            module.ILogger.__init__(self)
            self._relay = relay

        def log(self, severity: Any, text: str) -> None:
            if int(severity) <= least:
                self._relay(severity, text)

    return Logger


def _monitor_class(module: Any) -> Any:
    class Monitor(module.IProgressMonitor):  # type: ignore[misc]
        def __init__(self, listener: PhaseListener) -> None:
            module.IProgressMonitor.__init__(self)
            self._listener = listener

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            self._listener.phase_start(name, parent, steps)

        def step_complete(self, name: str, step: int) -> bool:
            return self._listener.step_complete(name, step)

        def phase_finish(self, name: str) -> None:
            self._listener.phase_finish(name)

    return Monitor


def _parser_fault(error: Any) -> str:
    where = f"node {error.node_name()!r} ({error.node_operator()}): " if error.node_name() else ""
    return f"{where}{error.desc().strip()}"
