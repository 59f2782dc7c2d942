"""What is looked at, and what is looked at in the same process."""

from __future__ import annotations

from dataclasses import dataclass

from mimi_edge.choices import Backend
from mimi_edge.parts import CORE, LIBRARIES, TRAIN, Library
from mimi_edge.runtimes import ENGINE_BACKENDS, GRAPH_BACKENDS

PROBES = "mimi_edge.profiles.doctor.probes"
CUDA_OF_TORCH, CACHE, WORKING_FOLDER = "torch.cuda", "cache", "working folder"


@dataclass(frozen=True)
class Step:
    """One look at one thing.

    Attributes:
        name: of it; the answer has the same.
        module: that holds the function, below `probes`.
        function: a generator of facts, each a mapping that JSON can hold.
        arguments: of the function.
    """

    name: str
    module: str
    function: str
    arguments: tuple[str, ...] = ()

    @property
    def target(self) -> tuple[str, str, tuple[str, ...]]:
        """What a process is told to call."""
        return f"{PROBES}.{self.module}", self.function, self.arguments


Group = tuple[Step, ...]
"""Steps that share a process as long as none ends it."""


def all_groups() -> tuple[Group, ...]:
    """Everything there is to look at; the slowest first."""
    cuda_of_torch = Step(CUDA_OF_TORCH, "libraries", "cuda_of_torch", ("torch",))
    return (
        (*_libraries(TRAIN), cuda_of_torch),
        _libraries(CORE),
        *((_library(name),) for name in ("onnxruntime", "matplotlib", "pynvml", "jtop", "pillow_heif")),
        *(_provider(backend) for backend in GRAPH_BACKENDS),
        *(_engines(backend) for backend in ENGINE_BACKENDS),
        (Step("driver", "gpus", "driver"), Step("cuda", "gpus", "cuda")),
        (Step("nvml", "gpus", "nvml"),),
        (Step("nvidia-smi", "gpus", "nvidia_smi"),),
        (Step("jetson", "machine", "jetson"), Step("power", "machine", "power")),
        (Step("machine", "machine", "machine"), Step(WORKING_FOLDER, "machine", "working_folder")),
        (Step(CACHE, "machine", "cache"),),
    )


def _libraries(part: str) -> Group:
    return tuple(_step(library) for library in LIBRARIES if library.part == part)


def _library(name: str) -> Step:
    return next(_step(library) for library in LIBRARIES if library.name == name)


def _step(library: Library) -> Step:
    return Step(library.name, "libraries", "library", (library.module, *library.distributions))


def _provider(backend: Backend) -> Group:
    return (Step(backend.value, "runtimes", "provider", (backend.value,)),)


def _engines(backend: Backend) -> Group:
    name = backend.value
    return tuple(Step(f"{name}{what and ' ' + what}", "engines", what or "bindings", (name,)) for what in ENGINE_STEPS)


ENGINE_STEPS = ("", "builder", "runtime")
"""Of TensorRT and TensorRT for RTX: its bindings, and what they make."""
