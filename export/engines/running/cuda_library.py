"""Finds NVIDIA's CUDA runtime library (libcudart) and declares the functions of it that are used.

ctypes on this one library, and not cuda-python: the library is on every machine that runs TensorRT anyway, two dozen C
functions are used, all of them the same in CUDA 11.4 to 13, and a Jetson has one thing less to install that must match
its CUDA. The price is this table of signatures.
"""

from __future__ import annotations

import ctypes
import glob
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_uint, c_ulonglong, c_void_p
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mimi_edge.errors import MimiEdgeError
from mimi_edge.installation import is_tegra, pip_line
from mimi_edge.parts import JETPACK

_OUT = POINTER(c_void_p)
_INT = POINTER(c_int)
_SIZE = POINTER(c_size_t)

SIGNATURES: Mapping[str, Sequence[Any]] = {
    "cudaRuntimeGetVersion": (_INT,),
    "cudaDriverGetVersion": (_INT,),
    "cudaGetDeviceCount": (_INT,),
    "cudaSetDevice": (c_int,),
    "cudaDeviceGetAttribute": (_INT, c_int, c_int),
    "cudaGetLastError": (),
    "cudaMemGetInfo": (_SIZE, _SIZE),
    "cudaMalloc": (_OUT, c_size_t),
    "cudaFree": (c_void_p,),
    "cudaHostAlloc": (_OUT, c_size_t, c_uint),
    "cudaFreeHost": (c_void_p,),
    "cudaMemcpyAsync": (c_void_p, c_void_p, c_size_t, c_int, c_void_p),
    "cudaMemsetAsync": (c_void_p, c_int, c_size_t, c_void_p),
    "cudaStreamCreateWithFlags": (_OUT, c_uint),
    "cudaStreamDestroy": (c_void_p,),
    "cudaStreamSynchronize": (c_void_p,),
    "cudaStreamBeginCapture": (c_void_p, c_int),
    "cudaStreamEndCapture": (c_void_p, _OUT),
    "cudaGraphInstantiateWithFlags": (_OUT, c_void_p, c_ulonglong),
    "cudaGraphLaunch": (c_void_p, c_void_p),
    "cudaGraphDestroy": (c_void_p,),
    "cudaGraphExecDestroy": (c_void_p,),
}
"""Arguments of the functions that return a code. `cudaGraphInstantiate` itself changed its arguments in CUDA 12."""

TEXTS: Mapping[str, Sequence[Any]] = {"cudaGetErrorName": (c_int,), "cudaGetErrorString": (c_int,)}
"""Arguments of the functions that return a text."""

DRIVER = "libcuda.so.1"
NO_DRIVER = (
    "There is no NVIDIA driver here, so nothing can run on a GPU. Install one; in a container, start it with the GPU "
    "passed in (docker run --gpus all, on a Jetson --runtime nvidia)."
)
NO_DEVICE = (
    "There is a driver but no NVIDIA GPU to be seen. Check nvidia-smi (tegrastats on a Jetson), and that "
    "CUDA_VISIBLE_DEVICES does not hide it."
)
_DRIVER_SAYS_NO_DEVICE = 100
_DRIVER_MISMATCHES = frozenset({803, 804})
"""The driver's library and its kernel module are of different versions, or the library is for another kind of GPU."""
SONAMES = ("libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0", "libcudart.so")


def install_words() -> str:
    """How the CUDA runtime is installed here."""
    if is_tegra():
        return f"Install the CUDA runtime, which is part of JetPack: {JETPACK}"
    return f"Install the CUDA runtime: {pip_line('install nvidia-cuda-runtime-cu12')}, or the CUDA toolkit."


def declared(library: Any) -> Any:
    """The same library with the types of its functions set.

    Raises:
        MimiEdgeError: it lacks a function, so it is older than CUDA 11.4.
    """
    try:
        for name, arguments in SIGNATURES.items():
            function = getattr(library, name)
            function.argtypes, function.restype = list(arguments), c_int
        for name, arguments in TEXTS.items():
            function = getattr(library, name)
            function.argtypes, function.restype = list(arguments), c_char_p
    except AttributeError as error:
        raise MimiEdgeError(
            f"The CUDA runtime is too old: expected CUDA 11.4 or newer ({error}). {install_words()}"
        ) from error
    return library


def libraries() -> Iterator[Any]:
    """Every CUDA runtime that can be loaded, best first: one that this process has, the system's, the wheels'."""
    seen: set[str] = set()
    for path in _candidates():
        if path in seen:
            continue
        seen.add(path)
        try:
            yield ctypes.CDLL(path)
        except OSError:  # not there, or for another machine: the next one may do
            continue


def driver_library() -> Any | None:
    """The driver's own library, which knows the device's name; None without a driver."""
    try:
        return ctypes.CDLL(DRIVER)
    except OSError:
        return None


def why_no_driver(find: Callable[[], Any | None] = driver_library) -> str | None:
    """Why the driver drives no GPU here, None where it does; nothing but the driver's own library is needed.

    TensorRT up to 10.6 ends the process where it finds no driver, so this has to be asked before.

    Args:
        find: gives the driver's library.
    """
    driver = find()
    if driver is None:
        return NO_DRIVER
    code, count = int(driver.cuInit(0)), c_int()
    code = code or int(driver.cuDeviceGetCount(byref(count)))
    if code == _DRIVER_SAYS_NO_DEVICE or (not code and not count.value):
        return NO_DEVICE
    if code in _DRIVER_MISMATCHES:
        return (
            f"The NVIDIA driver's library does not fit the driver that is loaded (CUDA error {code}). Reboot after an "
            "update; in a container, take the folder of its own libcuda (often .../compat) out of LD_LIBRARY_PATH."
        )
    return f"The NVIDIA driver does not start (CUDA error {code}). Check nvidia-smi." if code else None


def _candidates() -> Iterator[str]:
    yield from _already_loaded()
    yield from SONAMES  # where LD_LIBRARY_PATH and the system's loader look
    for folder in ("/usr/local/cuda/lib64", "/usr/local/cuda/targets/*/lib", *_wheel_folders()):
        yield from sorted(glob.glob(os.path.join(folder, "libcudart.so.1*")), reverse=True)  # noqa: PTH118, PTH207


def _already_loaded(maps: Path = Path("/proc/self/maps")) -> Iterator[str]:
    """A second copy of the runtime in one process works, but costs memory; so the one that is there comes first."""
    try:
        lines = maps.read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        path = line[line.find("/") :]
        if "/" in line and Path(path).name.startswith("libcudart"):
            yield path


def _wheel_folders() -> Iterator[str]:
    """Folders of NVIDIA's wheels: nvidia/cuda_runtime/lib up to CUDA 12, nvidia/cu13/lib since."""
    spec = find_spec("nvidia")
    for root in (spec.submodule_search_locations or ()) if spec else ():
        yield str(Path(root) / "*" / "lib")
