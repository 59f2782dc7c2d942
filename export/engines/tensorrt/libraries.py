"""Finds TensorRT's Python module, and the shared libraries that it needs but does not look for."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mimi_edge.choices import Backend
from mimi_edge.errors import ConfigError, MimiEdgeError
from mimi_edge.installation import is_tegra
from mimi_edge.parts import RTX, TRT, install_line

ROUNDS = 3
"""Libraries need one another in an order that nobody states: what fails at first may load later."""


@dataclass(frozen=True)
class Flavour:
    """One of the two libraries that build and run engines.

    Attributes:
        name: what people call it.
        modules: Python modules to try; the second is what the first one wraps, and stands alone in some wheels.
        libraries: the package of the wheel that holds its shared libraries.
        part: of mimi-edge that brings it.
    """

    name: str
    modules: tuple[str, str]
    libraries: str
    part: str

    @property
    def install(self) -> str:
        """The line that installs it here."""
        return install_line(self.part)


FLAVOURS = {
    Backend.TRT: Flavour("TensorRT", ("tensorrt", "tensorrt_bindings"), "tensorrt_libs", TRT),
    Backend.TRT_RTX: Flavour(
        "TensorRT for RTX",
        ("tensorrt_rtx", "tensorrt_rtx_bindings"),
        "tensorrt_rtx_libs",
        RTX,
    ),
}
JETSON = (
    "On a Jetson it comes with JetPack (sudo apt install nvidia-jetpack); make the virtual environment with "
    "--system-site-packages so that it is seen."
)


def installed_backend() -> Backend:
    """TensorRT where it is installed, else TensorRT for RTX where that is, else TensorRT."""
    return next((backend for backend in FLAVOURS if _installed(FLAVOURS[backend])), Backend.TRT)


def import_bindings(backend: Backend) -> Any:
    """Imports TensorRT's Python module, with the libraries that lie in wheels beside it.

    Raises:
        ConfigError: the backend is neither TensorRT nor TensorRT for RTX.
        MimiEdgeError: it is not installed, or its libraries are missing or do not fit; the message says what to do.
    """
    if backend not in FLAVOURS:
        raise ConfigError(f"{backend.value} has no engines; expected {' or '.join(known.value for known in FLAVOURS)}.")
    flavour = FLAVOURS[backend]
    installed = _installed(flavour)
    if not installed:
        raise MimiEdgeError(_not_installed(flavour, backend))
    failed = []
    for attempt in range(2):
        if attempt:
            _preload(flavour)
        for module in installed:
            try:
                return _whole(import_module(module))
            except (ImportError, OSError, RuntimeError) as error:
                failed.append(f"{module}: {error}")
    raise _unloadable(flavour, backend, failed)


def _not_installed(flavour: Flavour, backend: Backend) -> str:
    if is_tegra() and backend is Backend.TRT_RTX:
        return f"{flavour.name} is not made for a Jetson; JetPack's TensorRT is, --backend trt: {flavour.install}"
    return f"{flavour.name} is not installed: {flavour.install}\n{_also(backend)}"


def _again(flavour: Flavour) -> str:
    return f"{flavour.install} (with --reinstall)" if is_tegra() else f"{flavour.install} --force-reinstall"


def _also(backend: Backend) -> str:
    return JETSON if backend is Backend.TRT else "It needs a GeForce RTX or RTX PRO GPU to run what it builds."


def _installed(flavour: Flavour) -> list[str]:
    return [name for name in flavour.modules if find_spec(name) is not None]


def _whole(module: Any) -> Any:
    """Refuses an empty folder of the same name, which Python takes for a module."""
    if not hasattr(module, "Builder"):
        raise ImportError(f"{module.__name__} has no Builder; {getattr(module, '__path__', 'it')} is not TensorRT")
    return module


def _unloadable(flavour: Flavour, backend: Backend, failed: list[str]) -> MimiEdgeError:
    listed = "\n".join(f"  - {fault}" for fault in dict.fromkeys(failed))
    text = " ".join(failed)
    if "undefined symbol" in text or "version `" in text:
        return MimiEdgeError(
            f"{flavour.name}'s Python module is there, but the libraries it finds are of another version:\n{listed}\n"
            f"Install both from one place: {_again(flavour)}, and take other TensorRT folders out of "
            "LD_LIBRARY_PATH."
        )
    return MimiEdgeError(
        f"{flavour.name}'s Python module is there, but its libraries cannot be loaded:\n{listed}\n"
        f"Install them: {flavour.install}, or put the folders that hold them (TensorRT's and CUDA's) into "
        f"LD_LIBRARY_PATH. {_also(backend)}"
    )


def _preload(flavour: Flavour) -> None:
    """Loads what lies in wheels, for all to see; the module then finds it already loaded."""
    left = [*_wheel_files("nvidia", "*/lib/libcudart.so*"), *_wheel_files(flavour.libraries, "*.so*")]
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
