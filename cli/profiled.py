"""What `mimi-edge profile` measures when it is told nothing: the package that is here, as it runs here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mimi_edge.choices import Backend
from mimi_edge.cli.defaults import default_package, runs_at_hand
from mimi_edge.cli.output import say
from mimi_edge.errors import MimiEdgeError
from mimi_edge.runtimes import ENGINE_BACKENDS

if TYPE_CHECKING:
    from mimi_edge.export.open_packages import Package


@dataclass(frozen=True)
class Profiled:
    """What is measured.

    Attributes:
        sources: packages, task files, graphs and engines.
        runs: whose test splits give the accuracy.
        backend: that runs packages, tasks and graphs.
    """

    sources: tuple[Path, ...]
    runs: tuple[Path, ...]
    backend: Backend


def profiled(
    sources: Sequence[Path],
    runs: Sequence[Path],
    *,
    backend: Backend | None,
    data: str | None,
    tasks: Sequence[str] | None = None,
) -> Profiled:
    """What was named, and where nothing was, the package that is here with the runs that made its tasks.

    Args:
        sources: that were named.
        runs: that were named; where any are, or `data` is, no others are looked for.
        backend: that was named; else engines that run here, if the package was not named either, else ort-cpu.
        data: where the images of the one task are.
        tasks: names; None is all.

    Raises:
        ConfigError: nothing was named, and there is no package here.
    """
    if sources:
        return Profiled(tuple(sources), tuple(runs), backend or Backend.ORT_CPU)
    from mimi_edge.export.open_packages import read_package

    folder = default_package()
    package = read_package(folder, (), verify=False)
    found = tuple(runs) if runs or data else _runs(package, tasks)
    return Profiled((folder,), found, backend or _backend(package, tasks))


def _runs(package: Package, tasks: Sequence[str] | None) -> tuple[Path, ...]:
    """Those that made the tasks, so that their test splits give the accuracy."""
    found = {name: run for name, run in runs_at_hand(package).items() if tasks is None or name in tasks}
    for name, run in found.items():
        say(f"Taking the test split of {run} for the accuracy of {name}.")
    return tuple(found.values())


def _backend(package: Package, tasks: Sequence[str] | None) -> Backend:
    """That of the engines, where all tasks have one for the GPU that is here."""
    from mimi_edge.export.engines.shelf.shelf import read_shelf

    shelved = {engine.sidecar.backend for engine in read_shelf(package.folder).values()}
    for backend in (one for one in ENGINE_BACKENDS if one in shelved):
        why_not = _why_not(package, tasks, backend)
        if why_not is None:
            say(f"Taking its engines (--backend {backend.value}); its graphs are measured with --backend ort-cpu.")
            return backend
        say(f"Leaving its engines aside (--backend {backend.value}): {why_not}")
    return Backend.ORT_CPU


def _why_not(package: Package, tasks: Sequence[str] | None, backend: Backend) -> str | None:
    """Why the engines of a package cannot be measured here, None where they can."""
    from mimi_edge.export.engines.running.cuda import open_cuda
    from mimi_edge.export.engines.running.loaded import engines_for

    try:
        here = open_cuda().device.name
        engines = engines_for(package, list(package.tasks) if tasks is None else tasks, backend)
    except MimiEdgeError as error:
        return str(error).splitlines()[0]
    others = {one.sidecar.gpu or "GPUs in general" for one in engines.values()} - {here}
    return f"they are for {', '.join(sorted(others))}, and here is {here}." if others else None
