"""Broken libraries to plant, and what probes would say on machines that are not here."""

from __future__ import annotations

from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

from mimi_edge.parts import LIBRARIES
from mimi_edge.profiles.doctor.ask import Answer, Failure

BROKEN = {
    "raises": "raise RuntimeError('no good')",
    "lacks": "import a_module_that_is_nowhere",
    "exits": "raise SystemExit(3)",
    "interrupts": "raise KeyboardInterrupt",
    "leaves": "import os; os._exit(7)",
    "succeeds": "import os; os._exit(0)",
    "aborts": "import os; os.write(2, b'about to abort\\n'); os.abort()",
    "segfaults": "import ctypes; ctypes.string_at(0)",
    "misnamed": "class E(Exception):\n    def __str__(self): raise ValueError\nraise E",
    "syntax": "def (",
    "recurses": "def f(): f()\nf()",
}
"""What stands in a module, by what it does when it is imported."""
HANGS = "import time; time.sleep(1000)"
NOISY = "import os, sys; print('{\"done\": 0}'); os.write(1, b'[[[' * 40_000); sys.stdout.close(); __version__ = '2'"


def plant(folder: Path, **modules: str) -> Path:
    """Modules by name, each with its source."""
    folder.mkdir(exist_ok=True, parents=True)
    for name, source in modules.items():
        (folder / f"{name}.py").write_text(source)
    return folder


def plant_extension(folder: Path, name: str) -> Path:
    """A shared object that is none."""
    folder.mkdir(exist_ok=True, parents=True)
    (folder / f"{name}{EXTENSION_SUFFIXES[0]}").write_bytes(b"\x7fELF and then nothing")
    return folder


def failed(kind: str = "error", text: str = "it failed", **facts: Any) -> Answer:
    return Answer(facts, Failure(kind, text))


def installed(name: str, version: str, **more: Any) -> Answer:
    facts = {"distributions": {name: version}, "installed": True, "at": f"/site/{name}", "version": version}
    return Answer(facts | more)


ABSENT = Answer({"distributions": {}, "installed": False})
NO_GPU = "There is no NVIDIA driver here, so nothing can run on a GPU. Install one."
DEVICE = {
    "index": 0,
    "name": "NVIDIA L4",
    "compute_capability": [8, 9],
    "integrated": False,
    "multiprocessors": 58,
    "clock_mhz": 2040,
    "memory_bytes": 23_000_000_000,
    "driver_cuda": "12.6",
    "runtime_cuda": "12.4",
}


def good_machine(**changes: Answer) -> dict[str, Answer]:
    """A training server without a GPU, where everything works; changes by step, `_` for a blank or a dot."""
    answers = {library.name: installed(library.distributions[0], "99.0") for library in LIBRARIES}
    answers |= {
        "jtop": ABSENT,
        "torch.cuda": Answer({"built_for": "12.6"}),
        "ort-cpu": Answer({"built_in": True, "computes": True}),
        "ort-cuda": Answer({"built_in": False}),
        "ort-trt": Answer({"built_in": False}),
        "trt": Answer({"installed": False, "wheels": {}}),
        "trt-rtx": Answer({"installed": False, "wheels": {}}),
        "driver": Answer({"kernel": False, "library": False, "visible": None}),
        "cuda": Answer({"runtime": True, "why_not": NO_GPU}),
        "nvidia-smi": Answer({"path": None}),
        "nvml": Answer({"why_not": "NVML is not here."}),
        "jetson": Answer({"is_jetson": False}),
        "power": Answer({"meter": None, "why_not": "This CPU has no energy counters."}),
        "machine": Answer({"python": "3.12.1"}),
        "working folder": Answer({"path": "/here", "free_bytes": 10**11, "why_not": None}),
        "cache": Answer({"path": "/cache", "free_bytes": 10**11, "why_not": None}),
    }
    return answers | {name.replace("__", " ").replace("_", "-"): answer for name, answer in changes.items()}


def gpu_machine(**changes: Answer) -> dict[str, Answer]:
    """The same with a GPU, and everything that uses it."""
    wheels = {"bindings": "10.9.0", "libs": "10.9.0"}
    trt = Answer({"installed": True, "wheels": wheels, "version": "10.9.0", "library": "10.9.0"})
    return good_machine() | {
        "onnxruntime": installed("onnxruntime-gpu", "99.0"),
        "torch.cuda": Answer({"built_for": "12.6", "sum": 3.0}),
        "ort-cuda": Answer({"built_in": True, "computes": True}),
        "ort-trt": Answer({"built_in": True, "computes": True}),
        "trt": trt,
        "trt builder": Answer({"made": True}),
        "trt runtime": Answer({"made": True}),
        "driver": Answer({"kernel": True, "library": True, "visible": None}),
        "cuda": Answer({"runtime": True, "device": DEVICE}),
        "nvidia-smi": Answer({"path": "/usr/bin/nvidia-smi", "code": 0, "said": ["NVIDIA L4, 560"]}),
        "nvml": Answer({"name": "NVIDIA L4", "driver": "560", "power": 12.0, "warning": None}),
        "power": Answer({"meter": "GPU board", "why_not": None}),
        **{name.replace("__", " ").replace("_", "-"): answer for name, answer in changes.items()},
    }
