"""Where a measurement was taken: what two reports must have in common before they are compared."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimi_edge.profiles.board.processor import cpu_model, usable_cores
from mimi_edge.texts import json_text

if TYPE_CHECKING:
    from mimi_edge.profiles.board.find_board import Board, BoardState

PACKAGES = (
    "mimi-edge",
    "numpy",
    "onnx",
    "onnx-ir",
    "onnxruntime",
    "onnxruntime-gpu",
    "Pillow",
    "safetensors",
    "tensorrt",
    "timm",
    "torch",
)
BUSY = 0.5
"""Runnable processes for each core above which a machine counts as busy."""
GIT_SECONDS = 5


@dataclass(frozen=True)
class Environment:
    """The machine and the software of a measurement.

    Attributes:
        cpu: model name.
        cores: that this process may use.
        threads: that the runtime was told to use, None where it chose.
        system: operating system and its kernel's release.
        machine: instruction set, such as `x86_64` or `aarch64`.
        python: version.
        packages: versions of what is installed, by name.
        providers: the runtime's execution providers, in order of preference.
        load_average: runnable processes over the last minute when the measurement began, None where unknown. Above 0.5
            or so something else was running too.
        git_revision: of the checkout that the working directory is in; None where it is in none.
        gpu: what its driver tells, None without one.
        board: kind, name, power mode, temperatures and so on.
        marks: sentences on what makes the measurement doubtful; empty where nothing does.
    """

    cpu: str
    cores: int
    threads: int | None
    system: str
    machine: str
    python: str
    packages: Mapping[str, str]
    providers: tuple[str, ...]
    load_average: float | None
    git_revision: str | None = None
    gpu: Mapping[str, Any] | None = None
    board: Mapping[str, Any] | None = None
    marks: tuple[str, ...] = ()


def current_environment(
    *, threads: int | None = None, providers: Sequence[str] = (), board: Board | None = None
) -> Environment:
    """Describes this machine now.

    Args:
        threads: that the runtime under measurement was told to use.
        providers: that it runs on.
        board: to ask for its state, too; takes milliseconds.
    """
    state = None if board is None else board.read_state()
    load_average, cores = _load_average(), usable_cores()
    return Environment(
        cpu=cpu_model(),
        cores=cores,
        threads=threads,
        system=f"{platform.system()} {platform.release()}",
        machine=platform.machine(),
        python=platform.python_version(),
        packages=installed_versions(PACKAGES),
        providers=tuple(providers),
        load_average=load_average,
        git_revision=git_revision(Path.cwd()),
        gpu=None if board is None or state is None or board.kind != "gpu" else _plain(state.facts),
        board=None if board is None or state is None else _board_document(board, state),
        marks=(*busy_marks(load_average, cores), *(state_marks(state) if state is not None else ())),
    )


def git_revision(folder: Path) -> str | None:
    """The commit that the checkout around a folder stands at, None where there is none or no git."""
    try:
        command = ["git", "-C", str(folder), "rev-parse", "--verify", "--quiet", "HEAD"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=GIT_SECONDS, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def busy_marks(load_average: float | None, cores: int) -> tuple[str, ...]:
    """That something else was running before the measurement began, where it was."""
    if load_average is None or load_average <= BUSY * cores:
        return ()
    return (f"The machine was busy: load average {load_average:.2f} on {cores} cores before the measurement.",)


def state_marks(state: BoardState) -> tuple[str, ...]:
    """What a board's state makes doubtful about a measurement."""
    return (*state.warnings, *(f"Held back before the measurement: {reason}." for reason in state.throttling))


def _board_document(board: Board, state: BoardState) -> dict[str, Any]:
    document = {
        "kind": board.kind,
        "name": board.name,
        "unified_memory": board.unified_memory,
        "power_source": board.power_source,
        "power_mode": state.power_mode,
        "temperatures_c": state.temperatures_c,
        "throttling": state.throttling,
    }
    # A GPU's facts are in a place of their own.
    return _plain(document if board.kind == "gpu" else document | {"facts": state.facts})


def _plain(facts: Mapping[str, Any]) -> dict[str, Any]:
    """As they come back from JSON."""
    plain: dict[str, Any] = json.loads(json_text(facts, default=str))
    return plain


def installed_versions(names: Sequence[str]) -> dict[str, str]:
    """Versions by name of those of the packages that are installed."""
    versions = {name: _installed_version(name) for name in names}
    return {name: found for name, found in versions.items() if found is not None}


def _installed_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _load_average() -> float | None:
    try:
        return round(os.getloadavg()[0], 2)
    except (AttributeError, OSError):
        return None
