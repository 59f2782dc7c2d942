"""Asks the NVIDIA driver, CUDA and the tools that come with them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

KERNEL_DRIVER = Path("/proc/driver/nvidia/version")
SMI = "nvidia-smi"
SMI_LIMIT_S = 30


def driver() -> Iterator[Mapping[str, Any]]:
    """Whether the driver is in the kernel, and its library within reach: a container may have one without the other."""
    from mimi_edge.export.engines.running.cuda_library import driver_library

    yield {
        "kernel": KERNEL_DRIVER.exists(),
        "library": driver_library() is not None,
        "visible": os.environ.get("CUDA_VISIBLE_DEVICES"),
    }


def cuda() -> Iterator[Mapping[str, Any]]:
    """Whether work can run on a GPU, and if not, why."""
    from mimi_edge.errors import MimiEdgeError
    from mimi_edge.export.engines.running.cuda import open_cuda
    from mimi_edge.export.engines.running.cuda_library import install_words, libraries

    if next(libraries(), None) is None:
        yield {
            "runtime": False,
            "why_not": "There is no CUDA runtime library (libcudart) here.",
            "install": install_words(),
        }
        return
    yield {"runtime": True}
    try:
        yield {"device": asdict(open_cuda().device)}
    except MimiEdgeError as error:
        yield {"why_not": str(error)}


def nvml() -> Iterator[Mapping[str, Any]]:
    """What the driver tells of a GPU through `pynvml`."""
    if find_spec("pynvml") is None:
        return
    from mimi_edge.errors import MimiEdgeError
    from mimi_edge.profiles.board.nvml import gpu_state, open_gpu

    try:
        state = gpu_state(open_gpu())
    except MimiEdgeError as error:
        yield {"why_not": str(error)}
        return
    yield {"name": state.name, "driver": state.driver, "power": state.power_watts, "warning": state.warning}


def nvidia_smi() -> Iterator[Mapping[str, Any]]:
    """What NVIDIA's own tool says."""
    path = shutil.which(SMI)
    yield {"path": path}
    if path is None:
        return
    command = [path, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=SMI_LIMIT_S, check=False)
    said = (done.stdout.strip() or done.stderr.strip()).splitlines()
    yield {"code": done.returncode, "said": said[:8]}
