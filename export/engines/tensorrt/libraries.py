"""Finds TensorRT's Python module, and the shared libraries that it needs but does not look for."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mimi_edge.choices import Backend
from mimi_edge.errors import ConfigError, MimiEdgeError
from mimi_edge.installation import is_tegra
from mimi_edge.runtimes import ENGINE_BACKENDS, ENGINE_LIBRARIES, EngineLibrary, Runtime, names, runtime_of
from mimi_edge.texts import fault_list

ROUNDS = 3
"""Libraries need one another in an order that nobody states: what fails at first may load later."""


JETSON = (
    "On a Jetson it comes with JetPack (sudo apt install nvidia-jetpack); make the virtual environment with "
    "--system-site-packages so that it is seen."
)


def installed_backend() -> Backend:
    """TensorRT where it is installed, else TensorRT for RTX where that is, else TensorRT."""
    return next((backend for backend in ENGINE_BACKENDS if installed_modules(backend)), ENGINE_BACKENDS[0])


def import_bindings(backend: Backend) -> Any:
    """Imports TensorRT's Python module, with the libraries that lie in wheels beside it.

    Raises:
        ConfigError: the backend is neither TensorRT nor TensorRT for RTX.
        MimiEdgeError: it is not installed, or its libraries are missing or do not fit; the message says what to do.
    """
    runtime = runtime_of(backend)
    if runtime.engines is None:
        raise ConfigError(f"{backend.value} has no engines; expected {names(ENGINE_BACKENDS)}.")
    installed = installed_modules(backend)
    if not installed:
        raise MimiEdgeError(_not_installed(runtime))
    failed = []
    for attempt in range(2):
        if attempt:
            _preload(runtime.engines)
        for module in installed:
            try:
                return _whole(import_module(module))
            except (ImportError, OSError, RuntimeError) as error:
                failed.append(f"{module}: {error}")
    raise _unloadable(runtime, failed)


def installed_modules(backend: Backend) -> list[str]:
    """Those of its Python modules that are installed."""
    return [name for name in ENGINE_LIBRARIES[backend].modules if find_spec(name) is not None]


def _not_installed(runtime: Runtime) -> str:
    if not runtime.made_for_here:
        return f"{runtime.name} is not made for a Jetson; JetPack's TensorRT is, --backend trt: {runtime.install}"
    return f"{runtime.name} is not installed: {runtime.install}\n{_also(runtime)}"


def _again(runtime: Runtime) -> str:
    return f"{runtime.install} (with --reinstall)" if is_tegra() else f"{runtime.install} --force-reinstall"


def _also(runtime: Runtime) -> str:
    return JETSON if runtime.backend is Backend.TRT else "It needs a GeForce RTX or RTX PRO GPU to run what it builds."


def _whole(module: Any) -> Any:
    """Refuses an empty folder of the same name, which Python takes for a module."""
    if not hasattr(module, "Builder"):
        raise ImportError(f"{module.__name__} has no Builder; {getattr(module, '__path__', 'it')} is not TensorRT")
    return module


def _unloadable(runtime: Runtime, failed: list[str]) -> MimiEdgeError:
    listed = fault_list(dict.fromkeys(failed), longest=None)
    text = " ".join(failed)
    if "undefined symbol" in text or "version `" in text:
        return MimiEdgeError(
            f"{runtime.name}'s Python module is there, but the libraries it finds are of another version:\n{listed}\n"
            f"Install both from one place: {_again(runtime)}, and take other TensorRT folders out of "
            "LD_LIBRARY_PATH."
        )
    return MimiEdgeError(
        f"{runtime.name}'s Python module is there, but its libraries cannot be loaded:\n{listed}\n"
        f"Install them: {runtime.install}, or put the folders that hold them (TensorRT's and CUDA's) into "
        f"LD_LIBRARY_PATH. {_also(runtime)}"
    )


def _preload(library: EngineLibrary) -> None:
    """Loads what lies in wheels, for all to see; the module then finds it already loaded."""
    left = [*_wheel_files("nvidia", "*/lib/libcudart.so*"), *_wheel_files(library.libraries, "*.so*")]
    for _ in range(ROUNDS):
        left = [path for path in left if not _loads(path)]


def _wheel_files(package: str, pattern: str) -> Iterator[Path]:
    spec = find_spec(package)
    for folder in (spec and spec.submodule_search_locations) or ():
        yield from sorted(Path(folder).glob(pattern))


def _loads(path: Path) -> bool:
    try:
        ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL)
    except OSError:
        return False
    return True
