"""TensorRT modules made from recorded API surfaces: what a version does not have, its fake does not have either.

A fake builds "plans" that are JSON, from real ONNX files. `fake_module("10.3")` gives a module-like object:

- every class and enum has exactly the recorded public names; reading or setting any other raises AttributeError;
- a recorded name that the fake has no behaviour for raises NotImplementedError when it is used;
- what a real library would read from its surroundings is set on `module.world`, a `World`.

Behaviour is written once, in `BEHAVIOUR`: class name -> attribute -> function or property. Tests of other modules add
theirs with `fake_module(version, extra={"ICudaEngine": {...}})`.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import warnings
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx_ir as ir

SURFACES = Path(__file__).parent / "surfaces"
VERSIONS = ("10.3", "10.15", "11.4")
"""Of full TensorRT; `rtx-1.7` is recorded too."""

ENUM_MARK = {"name", "value"}
PARSED_DTYPES = {
    ir.DataType.FLOAT: "FLOAT",
    ir.DataType.FLOAT16: "HALF",
    ir.DataType.BFLOAT16: "BF16",
    ir.DataType.INT8: "INT8",
    ir.DataType.INT32: "INT32",
    ir.DataType.INT64: "INT64",
    ir.DataType.BOOL: "BOOL",
    ir.DataType.UINT8: "UINT8",
}


@dataclass
class World:
    """What the fake library finds around it, and what was asked of it.

    Attributes:
        fail: doing -> (severity, message) to log before giving up; doings: builder, runtime, parse, build, deserialize,
            context, refitter.
        parser_errors: (node name, operator, description), which make parsing fail.
        driver: whether there is one; without it versions below 10.15 end the process, as the real ones do.
        gpu: compute capability of the GPU that is here; a plan for another one is refused.
        cache_entries: what a build adds to a timing cache.
        bad_caches: contents that are not taken as timing caches.
        phases: (name, parent, steps) that a build goes through, each inside the one before it.
        during_build: called with the step's number before each step of the first phase.
        calls: names of what was called, in order.
    """

    fail: dict[str, tuple[str, str]] = field(default_factory=dict)
    parser_errors: list[tuple[str, str, str]] = field(default_factory=list)
    driver: bool = True
    gpu: str = "8.7"
    cache_entries: set[str] = field(default_factory=lambda: {"gemm"})
    bad_caches: set[bytes] = field(default_factory=set)
    phases: list[tuple[str, int]] = field(default_factory=lambda: [("Building engine", 5), ("Timing tactics", 3)])
    during_build: Any = None
    calls: list[str] = field(default_factory=list)


def surface(version: str) -> dict[str, Any]:
    """The recorded names of a version: class or enum -> its public attributes, other names -> their type."""
    return dict(json.loads((SURFACES / f"tensorrt-{version}.json").read_text())["names"])


def surface_of(module: Any) -> dict[str, Any]:
    """The public names of a real module, as the recorded surfaces hold them."""
    found = {name: getattr(module, name) for name in dir(module) if not name.startswith("__")}
    return {
        name: sorted(one for one in dir(value) if not one.startswith("_"))
        if isinstance(value, type)
        else type(value).__name__
        for name, value in found.items()
    }


def fake_module(version: str, *, world: World | None = None, extra: dict[str, dict[str, Any]] | None = None) -> Any:
    """A module with the names that a version has."""
    module = SimpleNamespace(__name__="tensorrt", world=world or World())
    module.__version__ = json.loads((SURFACES / f"tensorrt-{version}.json").read_text())["tensorrt"]
    for name, public in surface(version).items():
        behaviour = BEHAVIOUR.get(name, {}) | (extra or {}).get(name, {})
        if not isinstance(public, list):
            continue
        made = _enum(name, public) if set(public) >= ENUM_MARK else _class(module, name, public, behaviour)
        setattr(module, name, made)
    module.ILogger.Severity = IntEnum("Severity", ["INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"], start=0)
    return module


def _enum(name: str, public: list[str]) -> Any:
    return IntEnum(name, sorted(one for one in public if one.isupper()), start=0)


def _class(module: Any, name: str, public: list[str], behaviour: dict[str, Any]) -> type:
    members: dict[str, Any] = {one: behaviour.get(one, _missing(name, one)) for one in public}
    members |= {one: made for one, made in behaviour.items() if one.startswith("__")}
    members["_module"] = module
    members["__setattr__"] = _guard(name, frozenset(public))
    return type(name, (), members)


def _missing(owner: str, name: str) -> property:
    def refuse(_self: Any) -> Any:
        raise NotImplementedError(f"the fake of TensorRT has {owner}.{name}, but does not know what it does")

    return property(refuse, lambda self, value: object.__setattr__(self, f"_set_{name}", value))


def _guard(owner: str, public: frozenset[str]) -> Any:
    def set_attribute(self: Any, name: str, value: Any) -> None:
        if not name.startswith("_") and name not in public:
            raise AttributeError(f"{owner} has no attribute {name!r}")
        object.__setattr__(self, name, value)

    return set_attribute


def _made(module: Any, owner: str, **state: Any) -> Any:
    """An instance of a class that Python code cannot make itself."""
    instance = getattr(module, owner).__new__(getattr(module, owner))
    for name, value in state.items():
        object.__setattr__(instance, f"_{name}", value)
    return instance


NO_DRIVER = "createInferBuilder: Error Code 6: API Usage Error (CUDA initialization failure with error: 35)"


def _needs_driver(self: Any, logger: Any) -> bool:
    """Whether a driver is needed and missing; the older versions do not live to say so."""
    if self._module.world.driver or hasattr(self._module, "ComputeCapability"):
        return False
    if tuple(int(part) for part in self._module.__version__.split(".")[:2]) < (10, 15):
        sys.stderr.write("terminate called after throwing an instance of 'nvinfer1::CudaDriverError'\n")
        sys.stderr.flush()
        os.abort()
    logger.log(self._module.ILogger.Severity.ERROR, NO_DRIVER)
    return True


def _fails(self: Any, logger: Any, doing: str) -> bool:
    self._module.world.calls.append(doing)
    if doing not in self._module.world.fail:
        return False
    severity, message = self._module.world.fail[doing]
    logger.log(getattr(self._module.ILogger.Severity, severity), message)
    return True


# Building.


def _start_builder(self: Any, logger: Any) -> None:
    if _needs_driver(self, logger) or _fails(self, logger, "builder"):
        raise TypeError("pybind11::init(): factory function returned nullptr")
    self._logger = logger


def _create_network(self: Any, flags: int = 0) -> Any:
    strongly = 1 << self._module.NetworkDefinitionCreationFlag.STRONGLY_TYPED
    assert flags == strongly, "not strongly typed"
    return _made(
        self._module, "INetworkDefinition", inputs=[], outputs=[], layers=[], weights=set(), refit=set(), graph=""
    )


def _start_parser(self: Any, network: Any, logger: Any) -> None:
    self._network, self._logger, self._errors = network, logger, []


def _parse_from_file(self: Any, path: str) -> bool:
    world = self._module.world
    if _fails(self, self._logger, "parse") or world.parser_errors:
        self._errors = [_parser_error(self._module, *fault) for fault in world.parser_errors]
        return False
    graph = ir.load(path).graph
    if unread := _unread_kernels(self._module, graph):
        self._errors = [_parser_error(self._module, *fault) for fault in unread]
        return False
    tensors = {value.name: _tensor(self._module, value) for value in graph.inputs}
    for node in graph:
        outputs = [tensors.setdefault(value.name, _tensor(self._module, value)) for value in node.outputs]
        self._network._layers.append(
            _made(self._module, "ILayer", name=node.name or f"layer {len(self._network._layers)}", outputs=outputs)
        )
    inputs = [value for value in graph.inputs if value.name not in graph.initializers]
    self._network._inputs.extend(tensors[value.name] for value in inputs)
    self._network._outputs.extend(tensors[value.name] for value in graph.outputs)
    self._network._weights.update(graph.initializers)
    self._network._graph = path
    return True


def _unread_kernels(module: Any, graph: ir.Graph) -> list[tuple[str, str, str]]:
    """10.3 finds the size of a kernel in its weights only where they are a constant as they stand."""
    if tuple(int(part) for part in module.__version__.split(".")[:2]) > (10, 3):
        return []
    silent = [node for node in graph if node.op_type == "Conv" and "kernel_shape" not in node.attributes]
    return [
        (node.name, "Conv", "kernel weights has incorrect number of dimensions")
        for node in silent
        if node.inputs[1].producer() is not None
    ]


def _parser_error(module: Any, name: str, operator: str, description: str) -> Any:
    return _made(module, "ParserError", name=name, operator=operator, description=description)


def _tensor(module: Any, value: ir.Value) -> Any:
    sizes = [] if value.shape is None else list(value.shape)
    return _made(
        module,
        "ITensor",
        name=value.name,
        shape=tuple(size if isinstance(size, int) else -1 for size in sizes),
        dimensions=[None if isinstance(size, int) else size.value for size in sizes],
        dtype=module.DataType[PARSED_DTYPES.get(value.dtype, "FLOAT")],
    )


def _mark_weights(self: Any, name: str) -> bool:
    if name in self._weights:
        self._refit.add(name)
    return name in self._weights


def _create_config(self: Any) -> Any:
    return _made(
        self._module,
        "IBuilderConfig",
        flags_set={self._module.BuilderFlag.TF32},  # on by default, as in the real ones
        profiles=[],
        pools={},
        cache=None,
        capabilities=[],
        monitor=None,
    )


def _create_timing_cache(self: Any, content: bytes) -> Any:
    if content in self._module.world.bad_caches:
        return None
    return _made(self._module, "ITimingCache", entries=set(json.loads(content)) if content else set())


def _set_timing_cache(self: Any, cache: Any, ignore_mismatch: bool) -> bool:
    assert not ignore_mismatch
    if hasattr(self._module, "ComputeCapability"):
        warnings.warn("Timing cache operations are no-ops in TensorRT-RTX.", DeprecationWarning, stacklevel=2)
        return True
    object.__setattr__(self, "_cache", cache)
    return True


def _combine(self: Any, other: Any, ignore_mismatch: bool) -> bool:
    self._entries.update(other._entries)
    return True


def _count_capabilities(self: Any, count: int) -> None:
    object.__setattr__(self, "_capabilities", [None] * count)


def _build(self: Any, network: Any, config: Any) -> Any:
    if _fails(self, self._logger, "build") or not _went_through(self._module.world, config._monitor):
        return None
    if config._cache is not None:
        config._cache._entries.update(self._module.world.cache_entries)
    plan = {
        "graph": network._graph,
        "gpu": self._module.world.gpu,
        "flags": sorted(flag.name for flag in config._flags_set),
        "refittable": sorted(network._refit),
        "tensors": [[tensor._name, mode, tensor._dtype.name, tensor._shape] for tensor, mode in _io(network)],
        "profiles": [profile._shapes for profile in config._profiles],
        "capabilities": [one.name for one in config._capabilities],
        "pools": {pool.name: size for pool, size in config._pools.items()},
        "layers": [layer._name for layer in network._layers],
    }
    return _host_memory(self._module, json.dumps(plan, sort_keys=True).encode())


def _io(network: Any) -> list[tuple[Any, str]]:
    return [(tensor, "INPUT") for tensor in network._inputs] + [(tensor, "OUTPUT") for tensor in network._outputs]


def _went_through(world: World, monitor: Any) -> bool:
    """Tells the monitor of phases inside phases; False once it asks to stop."""

    def phase(depth: int, parent: str | None) -> bool:
        if depth == len(world.phases):
            return True
        name, steps = world.phases[depth]
        monitor.phase_start(name, parent, steps)
        for step in range(steps):
            if depth == 0 and world.during_build:
                world.during_build(step)
            if not phase(depth + 1, name) or not monitor.step_complete(name, step):
                return False
        monitor.phase_finish(name)
        return True

    return monitor is None or phase(0, None)


_HELD: list[Any] = []
"""What host memory points to: a memoryview made from a bare address owns nothing."""


class _Buffer(ctypes.Structure):
    """CPython's `Py_buffer`."""

    _fields_ = (
        ("buf", ctypes.c_char_p),
        ("obj", ctypes.c_void_p),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.POINTER(ctypes.c_ssize_t)),
        ("strides", ctypes.POINTER(ctypes.c_ssize_t)),
        ("suboffsets", ctypes.POINTER(ctypes.c_ssize_t)),
        ("internal", ctypes.c_void_p),
    )


def _host_memory(_module: Any, content: bytes) -> memoryview:
    """As the real ones are: a buffer that says its elements are floats, of one byte each."""
    _HELD.append(content)
    shape, strides = ctypes.c_ssize_t(len(content)), ctypes.c_ssize_t(1)
    described = _Buffer(
        content, None, len(content), 1, 1, 1, b"f", ctypes.pointer(shape), ctypes.pointer(strides), None, None
    )
    _HELD.append(described)
    made = ctypes.pythonapi.PyMemoryView_FromBuffer
    made.restype, made.argtypes = ctypes.py_object, [ctypes.c_void_p]
    return made(ctypes.addressof(described))


# Running: enough to load a plan and ask about it.


def _start_runtime(self: Any, logger: Any) -> None:
    self._logger, self._shell = logger, _needs_driver(self, logger) or _fails(self, logger, "runtime")


def _end_runtime(self: Any) -> None:
    """10.15 gives an empty shell where it has no driver, and the process dies with it."""
    if self._shell:
        self._module.world.calls.append("segmentation fault")


def _deserialize(self: Any, plan: Any) -> Any:
    if _fails(self, self._logger, "deserialize"):
        return None
    document = json.loads(bytes(plan))
    if document["gpu"] != self._module.world.gpu:
        refusal = (
            "IRuntime::deserializeCudaEngine: Error Code 6: API Usage Error (The engine plan file is generated on an "
            f"incompatible device, expecting compute {self._module.world.gpu} got compute {document['gpu']}, please "
            "rebuild.)"
        )
        self._logger.log(self._module.ILogger.Severity.ERROR, refusal)
        return None
    return _made(self._module, "ICudaEngine", plan=document)


def _engine_tensor(name: str, column: int) -> Any:
    def look_up(self: Any, tensor: str) -> Any:
        row = next(row for row in self._plan["tensors"] if row[0] == tensor)
        if name == "get_tensor_mode":
            return self._module.TensorIOMode[row[column]]
        return self._module.DataType[row[column]] if name == "get_tensor_dtype" else tuple(row[column])

    return look_up


def _information(self: Any, layout: Any) -> str:
    return json.dumps({"Layers": self._plan["layers"]})


def _start_weights(self: Any, values: Any, pointer: int = 0, count: int = 0) -> None:
    assert not hasattr(values, "strides"), "with numpy 2 some versions misread an array's strides"
    self._values = values, pointer, count


BEHAVIOUR: dict[str, dict[str, Any]] = {
    "ILogger": {"__init__": lambda self, *_: None},
    "IProgressMonitor": {"__init__": lambda self, *_: None},
    "Builder": {
        "__init__": _start_builder,
        "create_network": _create_network,
        "create_builder_config": _create_config,
        "create_optimization_profile": lambda self: _made(self._module, "IOptimizationProfile", shapes={}),
        "build_serialized_network": _build,
    },
    "IBuilderConfig": {
        "set_flag": lambda self, flag: self._flags_set.add(flag),
        "clear_flag": lambda self, flag: self._flags_set.discard(flag),
        "add_optimization_profile": lambda self, profile: self._profiles.append(profile),
        "set_memory_pool_limit": lambda self, pool, size: self._pools.__setitem__(pool, size),
        "create_timing_cache": _create_timing_cache,
        "set_timing_cache": _set_timing_cache,
        "get_timing_cache": lambda self: self._cache,
        "progress_monitor": property(
            lambda self: self._monitor, lambda self, value: object.__setattr__(self, "_monitor", value)
        ),
        "num_compute_capabilities": property(lambda self: len(self._capabilities), _count_capabilities),
        "set_compute_capability": lambda self, one, index: self._capabilities.__setitem__(index, one),
    },
    "IOptimizationProfile": {
        "set_shape": lambda self, name, low, best, high: self._shapes.__setitem__(name, [low, best, high]),
    },
    "ITimingCache": {
        "serialize": lambda self: _host_memory(self._module, json.dumps(sorted(self._entries)).encode()),
        "combine": _combine,
    },
    "INetworkDefinition": {
        "num_inputs": property(lambda self: len(self._inputs)),
        "num_outputs": property(lambda self: len(self._outputs)),
        "num_layers": property(lambda self: len(self._layers)),
        "get_input": lambda self, index: self._inputs[index],
        "get_output": lambda self, index: self._outputs[index],
        "get_layer": lambda self, index: self._layers[index],
        "mark_output": lambda self, tensor: self._outputs.append(tensor),
        "mark_weights_refittable": _mark_weights,
        "are_weights_marked_refittable": lambda self, name: name in self._refit,
    },
    "ILayer": {
        "name": property(lambda self: self._name),
        "num_outputs": property(lambda self: len(self._outputs)),
        "get_output": lambda self, index: self._outputs[index],
    },
    "ITensor": {
        "name": property(lambda self: self._name),
        "shape": property(lambda self: self._shape),
        "dtype": property(lambda self: self._dtype),
        "get_dimension_name": lambda self, index: self._dimensions[index],
        "is_network_output": property(lambda self: False),
    },
    "OnnxParser": {
        "__init__": _start_parser,
        "parse_from_file": _parse_from_file,
        "num_errors": property(lambda self: len(self._errors)),
        "get_error": lambda self, index: self._errors[index],
    },
    "ParserError": {
        "node_name": lambda self: self._name,
        "node_operator": lambda self: self._operator,
        "desc": lambda self: self._description,
    },
    "Runtime": {"__init__": _start_runtime, "__del__": _end_runtime, "deserialize_cuda_engine": _deserialize},
    "ICudaEngine": {
        "num_io_tensors": property(lambda self: len(self._plan["tensors"])),
        "get_tensor_name": lambda self, index: self._plan["tensors"][index][0],
        "get_tensor_mode": _engine_tensor("get_tensor_mode", 1),
        "get_tensor_dtype": _engine_tensor("get_tensor_dtype", 2),
        "get_tensor_shape": _engine_tensor("get_tensor_shape", 3),
        "device_memory_size": property(lambda self: 1000),
        "device_memory_size_v2": property(lambda self: 2000),
        "refittable": property(lambda self: bool(self._plan["refittable"])),
        "create_engine_inspector": lambda self: _made(self._module, "EngineInspector", plan=self._plan),
        "create_execution_context": lambda self, *_: _made(self._module, "IExecutionContext", engine=self),
    },
    "EngineInspector": {"get_engine_information": _information},
    "Weights": {"__init__": _start_weights},
}
