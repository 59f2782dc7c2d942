"""What can be profiled, found among paths: packages, task files, graphs and engines, each as one or more artefacts.

Nothing is opened in a runtime here; `Artefact.opening` says how a process of its own does that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mimi_edge.choices import Backend, Strategy
from mimi_edge.errors import ArtifactError, ConfigError
from mimi_edge.profiles.runtimes import onnx_runtime, pytorch, tensorrt
from mimi_edge.profiles.runtimes.artefact import Artefact, Wanted
from mimi_edge.profiles.runtimes.protocol import measured_runtime
from mimi_edge.tasks.files import SUFFIX as TASK_SUFFIX
from mimi_edge.tasks.files import read_task

if TYPE_CHECKING:
    from mimi_edge.export.engines.shelf.sidecars import Sidecar
    from mimi_edge.export.open_packages import Package, Packages

GRAPH_SUFFIX = ".onnx"
ENGINE_SUFFIXES = (".engine", ".plan")
SOURCES = "a package, a task file (.safetensors), a graph (.onnx) or an engine (.engine)"


def find_artefacts(sources: Sequence[Path], wanted: Wanted) -> tuple[Artefact, ...]:
    """Opens the packages that sources are or lie in, and finds everything in them; as of `artefacts_of`."""
    from mimi_edge.export.open_packages import undisturbed

    with undisturbed(sources) as packages:
        return artefacts_of(sources, wanted, packages)


def artefacts_of(sources: Sequence[Path], wanted: Wanted, packages: Packages) -> tuple[Artefact, ...]:
    """Everything that sources hold, in their order; a package gives its bare backbone first.

    Args:
        sources: paths.
        wanted: what is asked of all of them.
        packages: those that they are or lie in, open.

    Raises:
        ArtifactError: a source is damaged, or an engine is not to be trusted.
        ConfigError: a source is none, comes twice, lacks a task, or does not go with the backend.
    """
    if not sources:
        raise ConfigError(f"There is nothing to profile. Give {SOURCES}.")
    resolved = [source.resolve() for source in sources]
    if twice := [str(source) for source, path in zip(sources, resolved, strict=True) if resolved.count(path) > 1]:
        raise ConfigError(f"{twice[0]} was given twice. Name each source once.")
    chosen = [_package(source, wanted.tasks, packages) for source in sources if source.is_dir()]
    if wanted.tasks is not None:
        _check_tasks(wanted.tasks, sources, chosen)
    found = [artefact for source in sources for artefact in _of_source(source, chosen, packages, wanted)]
    return _with_names_of_their_own(found)


def _package(folder: Path, tasks: Sequence[str] | None, packages: Packages) -> Package:
    """A package of which the backbone and those tasks that it has of these were looked at; None is all."""
    from mimi_edge.export.manifest import read_manifest

    if (package := packages.at(folder)) is None:
        read_manifest(folder)  # which says why this is no package
        raise ArtifactError(f"{folder} became a package while it was looked at. Run the command again.")
    names = [name for name in package.tasks if tasks is None or name in tasks]
    package.require(names, graphs=False)
    for path in (package.backbone_graph, *(package.task(name).graph for name in names)):
        package.graph(path)
    return package


def _check_tasks(tasks: Sequence[str], sources: Sequence[Path], packages: Sequence[Package]) -> None:
    """A task that only an engine or a file among the sources has is found later."""
    known = {name for package in packages for name in package.tasks}
    unknown = sorted(set(tasks) - known)
    if packages and len(packages) == len(sources) and (unknown or not tasks):
        raise ConfigError(
            f"This package has the tasks {', '.join(sorted(known)) or 'none'}; "
            f"got {', '.join(unknown) or 'no task'}. Name one of them, or export a task first."
        )


def _of_source(source: Path, chosen: Sequence[Package], packages: Packages, wanted: Wanted) -> Iterator[Artefact]:
    if source.is_dir():
        package = next(one for one in chosen if one.folder == source)
        names = [name for name in package.tasks if wanted.tasks is None or name in wanted.tasks]
        yield from measured_runtime(wanted.backend).of_package(package, names, wanted)
    elif source.suffix == GRAPH_SUFFIX:
        onnx_runtime.require_graphs(source, wanted)
        yield onnx_runtime.of_graph(source, wanted)
    elif source.suffix == TASK_SUFFIX:
        yield _of_task_file(source, packages, wanted)
    elif source.suffix in ENGINE_SUFFIXES:
        yield from _of_engine(source, chosen, packages, wanted)
    else:
        raise ConfigError(f"{source} is nothing that can be profiled. Expected {SOURCES}.")


def _with_names_of_their_own(found: Sequence[Artefact]) -> tuple[Artefact, ...]:
    """Names that several sources use get the source's path in front."""
    names = [one.name for one in found]
    clashing = {name for name in names if names.count(name) > 1}
    return tuple(replace(one, name=f"{one.origin}:{one.name}") if one.name in clashing else one for one in found)


def _of_task_file(path: Path, packages: Packages, wanted: Wanted) -> Artefact:
    """A task file that lies in a package is measured there; one that lies alone needs torch."""
    task = read_task(path)
    if wanted.backend is Backend.TORCH:
        return pytorch.of_task_file(path, task, wanted)
    inside = packages.at(path.parent) is not None
    package = _package(path.parent, [task.header.name], packages) if inside else None
    packaged = None if package is None else package.tasks.get(task.header.name)
    if package is None or packaged is None or packaged.task_file.name != path.name:
        raise ConfigError(
            f"{path} is a task file, and {wanted.backend.value} needs its backbone's graph: there is no package around "
            f"it. Make one: mimi-edge export {path} --output PACKAGE; or measure torch's model: --backend torch"
        )
    return measured_runtime(wanted.backend).of_task(package, packaged.name, wanted)


def _of_engine(path: Path, chosen: Sequence[Package], packages: Packages, wanted: Wanted) -> Iterator[Artefact]:
    from mimi_edge.export.engines.shelf.shelf import open_engine

    _, sidecar = open_engine(path, trust=wanted.trust)
    return tensorrt.of_engine(path, sidecar, _package_of(path, sidecar, chosen, packages), wanted)


def _package_of(path: Path, sidecar: Sidecar, chosen: Sequence[Package], packages: Packages) -> Package | None:
    """The package whose shelf an engine is on, else the one of its backbone among the sources."""
    from mimi_edge.export.engines.shelf.shelf import FOLDER

    around = path.resolve().parent
    if around.name == FOLDER and packages.at(around.parent) is not None:
        return _package(
            around.parent, tuple(sidecar.tasks) if sidecar.strategy is Strategy.PER_TASK else None, packages
        )
    return next((one for one in chosen if one.backbone.sha256 == sidecar.backbone_sha256), None)
