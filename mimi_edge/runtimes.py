"""What runs tasks: a row for each backend, with all that differs between them.

Lists of backends are chosen from these rows and stand nowhere else. Light: loads no library.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from mimi_edge.choices import Backend
from mimi_edge.installation import is_tegra
from mimi_edge.parts import CPU, GPU, RTX, TRAIN, TRT, install_line


class Runs(Enum):
    """What a runtime is given."""

    MODELS = "models of torch"
    GRAPHS = "graphs of ONNX"
    ENGINES = "engines"


@dataclass(frozen=True)
class EngineLibrary:
    """A library that builds and runs engines.

    Attributes:
        modules: Python modules to try; the second is what the first one wraps, and stands alone in some wheels.
        wheel: with which the names of its wheels begin.
        libraries: the package of the wheel that holds its shared libraries.
        shared_library: name of the one that holds the runtime.
        builds_without_gpu: whether engines can be built for a GPU that is not there.
        on_jetson: whether it is made for a Jetson.
    """

    modules: tuple[str, str]
    wheel: str
    libraries: str
    shared_library: str
    builds_without_gpu: bool = False
    on_jetson: bool = True


@dataclass(frozen=True)
class Runtime:
    """One way of running tasks.

    Attributes:
        backend: its name on the command line.
        name: what people call it.
        runs: what it is given.
        part: of mimi-edge that brings it.
        needs_gpu: whether nothing runs without a GPU.
        providers: of ONNX Runtime; what the first cannot run goes to the next.
        engines: the library behind it, where it runs engines.
    """

    backend: Backend
    name: str
    runs: Runs
    part: str
    needs_gpu: bool
    providers: tuple[str, ...] = ()
    engines: EngineLibrary | None = None

    @property
    def install(self) -> str:
        """The line that installs it here."""
        return install_line(self.part)

    @property
    def made_for_here(self) -> bool:
        """Whether it is made for this kind of machine."""
        return self.engines is None or self.engines.on_jetson or not is_tegra()


_CPU, _CUDA, _TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"

RUNTIMES = (
    Runtime(Backend.TORCH, "PyTorch", Runs.MODELS, TRAIN, needs_gpu=False),
    Runtime(Backend.ORT_CPU, "ONNX Runtime", Runs.GRAPHS, CPU, needs_gpu=False, providers=(_CPU,)),
    Runtime(Backend.ORT_CUDA, "ONNX Runtime", Runs.GRAPHS, GPU, needs_gpu=True, providers=(_CUDA, _CPU)),
    Runtime(Backend.ORT_TRT, "ONNX Runtime", Runs.GRAPHS, GPU, needs_gpu=True, providers=(_TENSORRT, _CUDA, _CPU)),
    Runtime(
        Backend.TRT,
        "TensorRT",
        Runs.ENGINES,
        TRT,
        needs_gpu=True,
        engines=EngineLibrary(("tensorrt", "tensorrt_bindings"), "tensorrt", "tensorrt_libs", "libnvinfer.so"),
    ),
    Runtime(
        Backend.TRT_RTX,
        "TensorRT for RTX",
        Runs.ENGINES,
        RTX,
        needs_gpu=True,
        engines=EngineLibrary(
            ("tensorrt_rtx", "tensorrt_rtx_bindings"),
            "tensorrt-rtx",
            "tensorrt_rtx_libs",
            "libtensorrt_rtx.so",
            builds_without_gpu=True,
            on_jetson=False,
        ),
    ),
)
"""Where several could do, the first is taken that is installed."""

GRAPH_BACKENDS = tuple(one.backend for one in RUNTIMES if one.runs is Runs.GRAPHS)
ENGINE_BACKENDS = tuple(one.backend for one in RUNTIMES if one.runs is Runs.ENGINES)
PROVIDERS: Mapping[Backend, tuple[str, ...]] = {
    one.backend: one.providers for one in RUNTIMES if one.runs is Runs.GRAPHS
}
ENGINE_LIBRARIES: Mapping[Backend, EngineLibrary] = {
    one.backend: one.engines for one in RUNTIMES if one.engines is not None
}


def runtime_of(backend: Backend) -> Runtime:
    """The row of a backend."""
    return next(one for one in RUNTIMES if one.backend is backend)


def names(backends: tuple[Backend, ...]) -> str:
    """For a sentence: `trt or trt-rtx`."""
    *others, last = (one.value for one in backends)
    return f"{', '.join(others)} or {last}" if others else last
