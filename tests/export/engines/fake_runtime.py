"""The running half of the fake TensorRT: engines that really answer, computed by ONNX Runtime on the fake GPU's memory.

A plan carries its ONNX graph with it, so it can be moved, stored and loaded like a real one.
`install(monkeypatch)` puts both fakes where the code looks for TensorRT and CUDA.
"""

from __future__ import annotations

import base64
import ctypes
import json
import sys
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from fake_cuda import FakeCuda
from fake_tensorrt import BEHAVIOUR, World, _host_memory, _made, fake_module

from mimi_edge.choices import Backend
from mimi_edge.export.engines.running import cuda
from mimi_edge.export.engines.running.cuda_library import NO_DRIVER
from mimi_edge.export.engines.tensorrt import bindings
from mimi_edge.export.engines.tensorrt.bindings import DTYPES, Bindings, bindings_of

Array = np.ndarray[Any, Any]


@dataclass
class Machine:
    """A computer with a fake GPU and a fake TensorRT.

    Attributes:
        gpu: the CUDA runtime.
        module: what `import tensorrt` gives.
        world: what that finds around it.
    """

    gpu: FakeCuda
    module: Any
    world: World

    @property
    def bindings(self) -> Bindings:
        return bindings_of(self.module, Backend.TRT, why_no_driver=lambda: None if self.gpu.driver else NO_DRIVER)


def machine(version: str = "10.15", *, gpu: FakeCuda | None = None, world: World | None = None) -> Machine:
    """A fake GPU with a TensorRT of this version."""
    gpu, world = gpu or FakeCuda(), world or World()
    return Machine(gpu, fake_module(version, world=world, extra=behaviour(gpu)), world)


def install(monkeypatch: pytest.MonkeyPatch, version: str = "10.15", **parts: Any) -> Machine:
    """Puts a machine where `load_bindings` and `open_cuda` look; call `machine.gpu.check()` at the end."""
    made = machine(version, **parts)
    made.module.__spec__ = ModuleSpec("tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt", made.module)
    monkeypatch.setattr(cuda, "libraries", lambda: iter([made.gpu.library]))
    monkeypatch.setattr(cuda, "driver_library", lambda: None)
    ready = made.bindings
    monkeypatch.setattr(bindings, "_loaded", lambda _backend: ready)
    return made


# Building: plans that hold their graph.


def _build(self: Any, network: Any, config: Any) -> Any:
    plan = BEHAVIOUR["Builder"]["build_serialized_network"](self, network, config)
    if plan is None:
        return None
    document = json.loads(bytes(plan))
    marked = [name for name, mode, *_ in document["tensors"] if mode == "OUTPUT"]
    document["model"] = base64.b64encode(_whole_model(network._graph, marked)).decode()
    return _host_memory(self._module, json.dumps(document, sort_keys=True).encode())


def _whole_model(path: str, outputs: list[str]) -> bytes:
    model = onnx.load(path)
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
    return model.SerializeToString()


# Running.


@dataclass
class Loaded:
    """What an engine has on its device: a session with its weights."""

    gpu: FakeCuda
    plan: Mapping[str, Any]
    weights: dict[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.model = onnx.load_from_string(base64.b64decode(self.plan["model"]))
        self.size_bytes = len(self.plan["model"])
        self.gpu.reserved += self.size_bytes
        weakref.finalize(self, _unload, self.gpu, self.size_bytes)
        self.outputs = [name for name, mode, *_ in self.plan["tensors"] if mode == "OUTPUT"]
        self.inputs = [name for name, mode, *_ in self.plan["tensors"] if mode == "INPUT"]
        self.refit({})

    def refit(self, weights: Mapping[str, Array]) -> None:
        for tensor in self.model.graph.initializer:
            if tensor.name in weights:
                shaped = weights[tensor.name].reshape(tuple(tensor.dims))
                tensor.CopyFrom(onnx.numpy_helper.from_array(shaped, tensor.name))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 4
        self.session = onnxruntime.InferenceSession(
            self.model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def answer(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        return dict(zip(self.outputs, self.session.run(self.outputs, dict(feeds)), strict=True))

    @property
    def may_be_captured(self) -> bool:
        """TensorRT for RTX has to be told when it builds."""
        return "REQUIRE_USER_ALLOCATION" in self.plan["flags"]

    def dtype(self, name: str) -> np.dtype[Any]:
        return np.dtype(DTYPES[next(row for row in self.plan["tensors"] if row[0] == name)[2]])

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(next(row for row in self.plan["tensors"] if row[0] == name)[3])

    def range(self, name: str) -> list[tuple[int, ...]]:
        found = self.plan["profiles"][0].get(name) if self.plan["profiles"] else None
        return [tuple(one) for one in found] if found else [self.shape(name)] * 3

    def initializer(self, name: str) -> Array | None:
        found = [tensor for tensor in self.model.graph.initializer if tensor.name == name]
        return onnx.numpy_helper.to_array(found[0]) if found else None


def _unload(gpu: FakeCuda, size_bytes: int) -> None:
    gpu.reserved -= size_bytes


@dataclass
class Run:
    """State of an execution context; a lazy one answers with other last bits until its kernels are made."""

    loaded: Loaded
    own_memory: bool
    is_lazy: bool = False
    memory: tuple[int, int] | None = None
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    addresses: dict[str, int] = field(default_factory=dict)
    prepared: bool = False

    def take_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        low, _, high = self.loaded.range(name)
        fits = len(shape) == len(low) and all(a <= b <= c for a, b, c in zip(low, shape, high, strict=True))
        if fits:
            self.shapes[name], self.prepared = tuple(shape), False
        return fits

    def all_shapes(self) -> dict[str, tuple[int, ...]]:
        shapes = {name: self.shapes.get(name, self.loaded.shape(name)) for name in self.loaded.inputs}
        assert all(min(shape, default=0) >= 0 for shape in shapes.values()), "a shape was not set"
        return shapes

    def output_shape(self, name: str) -> tuple[int, ...]:
        zeros = {one: np.zeros(shape, self.loaded.dtype(one)) for one, shape in self.all_shapes().items()}
        return tuple(self.loaded.answer(zeros)[name].shape)

    def missing(self) -> str | None:
        """Why it cannot run."""
        if not self.own_memory and self.memory is None:
            return "no device memory was set"
        if self.memory is not None:
            self.loaded.gpu.on_device(*self.memory)
        unset = {*self.loaded.inputs, *self.loaded.outputs} - self.addresses.keys()
        return f"no address of {', '.join(sorted(unset))}" if unset else None

    def work(self) -> Any:
        """What runs later, with shapes and addresses as they are now."""
        gpu, loaded = self.loaded.gpu, self.loaded
        shapes, addresses = self.all_shapes(), dict(self.addresses)
        general = 1 + 2.0**-20 if self.is_lazy and not self.prepared else 1.0

        def run() -> None:
            feeds = {
                name: _read(gpu, addresses[name], shape, loaded.dtype(name)).copy() for name, shape in shapes.items()
            }
            for name, values in loaded.answer(feeds).items():
                _read(gpu, addresses[name], values.shape, values.dtype)[...] = values * values.dtype.type(general)

        return run


def _read(gpu: FakeCuda, address: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    size = int(np.prod(shape)) * dtype.itemsize
    assert address % 16 == 0, "not aligned"
    gpu.on_device(address, size)
    return np.frombuffer((ctypes.c_uint8 * size).from_address(address), dtype).reshape(shape)


def behaviour(gpu: FakeCuda) -> dict[str, dict[str, Any]]:
    """What to add to the fake module so that its engines run on this GPU."""
    return {
        "Builder": {"build_serialized_network": _build},
        "Runtime": {"deserialize_cuda_engine": lambda self, plan: _deserialize(gpu, self, plan)},
        "ICudaEngine": {
            "get_tensor_profile_shape": lambda self, name, index: self._loaded.range(name),
            "create_execution_context": _create_context,
            "create_runtime_config": lambda self: _made(self._module, "IRuntimeConfig", allocation=None, kernels=None),
        },
        "EngineInspector": {"get_engine_information": _layers},
        "IRuntimeConfig": {
            "set_execution_context_allocation_strategy": lambda self, kind: _set(self, "_allocation", kind),
            "dynamic_shapes_kernel_specialization_strategy": property(
                lambda self: self._kernels, lambda self, kind: _set(self, "_kernels", kind)
            ),
        },
        "IExecutionContext": {
            "set_input_shape": lambda self, name, shape: self._run.take_shape(name, tuple(shape)),
            "get_tensor_shape": _context_shape,
            "set_tensor_address": _set_address,
            "set_device_memory": lambda self, address, size: setattr(self._run, "memory", (address, size)),
            "execute_async_v3": _execute,
            "is_stream_capturable": lambda self, stream: gpu.capturable and self._run.loaded.may_be_captured,
        },
        "Refitter": {
            "__init__": _start_refitter,
            "get_all_weights": lambda self: list(self._engine._plan["refittable"]),
            "get_missing_weights": lambda self: _missing_weights(self._engine._plan["refittable"], self._given),
            "get_weights_prototype": _prototype,
            "set_named_weights": _set_named_weights,
            "refit_cuda_engine": _refit,
            "refit_cuda_engine_async": lambda self, stream: _refit(self),
        },
        "Weights": {
            "__init__": _start_weights,
            "size": property(lambda self: self._values.size),
            "nbytes": property(lambda self: self._values.nbytes),
            "dtype": property(lambda self: self._dtype),
        },
    }


def _deserialize(gpu: FakeCuda, runtime: Any, plan: Any) -> Any:
    engine = BEHAVIOUR["Runtime"]["deserialize_cuda_engine"](runtime, plan)
    if engine is not None:
        engine._loaded = Loaded(gpu, engine._plan)
        engine._logger = runtime._logger
    return engine


def _layers(self: Any, layout: Any) -> str:
    """A Softmax between casts keeps attention from being fused, as was reported of the real thing."""
    model = onnx.load_from_string(base64.b64decode(self._plan["model"]))
    makers = {output: node.op_type for node in model.graph.node for output in node.output}
    layers = [
        {
            "Name": node.name,
            "TacticName": "_gemm_mha_v2_0x1234"
            if node.op_type == "Softmax" and makers.get(node.input[0]) != "Cast"
            else f"sm80_xmma_{node.op_type.lower()}",
        }
        for node in model.graph.node
    ]
    return json.dumps({"Layers": layers})


def _set(self: Any, name: str, value: Any) -> None:
    object.__setattr__(self, name, value)


def _create_context(self: Any, how: Any = None) -> Any:
    managed = self._module.ExecutionContextAllocationStrategy.USER_MANAGED
    kinds = getattr(self._module, "DynamicShapesKernelSpecializationStrategy", None)
    allocation = getattr(how, "_allocation", how)
    is_lazy = kinds is not None and getattr(how, "_kernels", None) != kinds.EAGER
    run = Run(self._loaded, allocation != managed, is_lazy=is_lazy)
    return _made(self._module, "IExecutionContext", engine=self, run=run)


def _context_shape(self: Any, name: str) -> tuple[int, ...]:
    run = self._run
    return run.all_shapes()[name] if name in run.loaded.inputs else run.output_shape(name)


def _set_address(self: Any, name: str, address: int) -> bool:
    run = self._run
    if run.addresses.get(name) != address:
        run.addresses[name], run.prepared = address, False
    return name in {*run.loaded.inputs, *run.loaded.outputs}


def _say(self: Any, text: str) -> bool:
    self._engine._logger.log(self._module.ILogger.Severity.ERROR, text)
    return False


def _execute(self: Any, stream: int) -> bool:
    run, gpu = self._run, self._run.loaded.gpu
    if why := run.missing():
        return _say(self, why)
    if gpu.is_capturing(stream) and not run.prepared:
        return _say(self, "captured before an ordinary run with these shapes and addresses")
    if gpu.fail.get("execute_async_v3") and gpu.fail["execute_async_v3"].pop(0):
        return _say(self, "a kernel could not be started")
    work, run.prepared = run.work(), True
    gpu.put(stream, work)
    return True


# Refitting.


def _start_refitter(self: Any, engine: Any, logger: Any) -> None:
    self._engine, self._logger, self._given = engine, logger, {}


def _prototype(self: Any, name: str) -> Any:
    values = self._engine._loaded.initializer(name)
    made = self._module.Weights.__new__(self._module.Weights)
    made._values = np.zeros(0, np.float32) if values is None else values
    made._dtype = _data_type(self._module, made._values.dtype)
    return made


def _set_named_weights(self: Any, name: str, weights: Any) -> bool:
    expected = self._engine._loaded.initializer(name)
    if name not in self._engine._plan["refittable"] or expected is None:
        return _say(self, f"{name} is not refittable")
    if expected.dtype != weights._values.dtype or expected.size != weights._values.size:
        return _say(self, f"{name} has another type or size")
    self._given[name] = weights
    return True


def _missing_weights(refittable: list[str], given: dict[str, Any]) -> list[str]:
    """Weights of one adapter, or of the head, can only be replaced together."""
    touched = {name.rpartition(".")[0] for name in given}
    return [name for name in refittable if name.rpartition(".")[0] in touched and name not in given]


def _refit(self: Any) -> bool:
    failures = self._engine._loaded.gpu.fail.get("refit")
    if failures and failures.pop(0):
        return _say(self, "the refit did not work")
    if missing := _missing_weights(self._engine._plan["refittable"], self._given):
        return _say(self, f"missing {missing}")
    self._engine._loaded.refit({name: weights._values for name, weights in self._given.items()})
    return True


def _start_weights(self: Any, values: Any, pointer: int = 0, count: int = 0) -> None:
    BEHAVIOUR["Weights"]["__init__"](self, values, pointer, count)
    dtype = np.dtype(DTYPES[values.name])
    memory = (ctypes.c_uint8 * (count * dtype.itemsize)).from_address(pointer)
    self._values, self._dtype = np.frombuffer(memory, dtype), values


def _data_type(module: Any, dtype: np.dtype[Any]) -> Any:
    return module.DataType[next(name for name, ours in DTYPES.items() if ours == dtype.name)]
