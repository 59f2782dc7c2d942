"""What can be profiled, found among paths: packages, task files, graphs and engines, each as one or more artefacts.

Nothing is opened in a runtime here; `Artefact.opening` says how a process of its own does that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mimi_edge.choices import Backend, Strategy
from mimi_edge.errors import ArtifactError, ConfigError
from mimi_edge.events import Listener, Note, silent
from mimi_edge.images.preprocessing import Preprocessing
from mimi_edge.profiles.open_artefact import ENGINE, GRAPH, TORCH, Opening
from mimi_edge.tasks.files import SUFFIX as TASK_SUFFIX
from mimi_edge.tasks.files import read_task
from mimi_edge.tasks.task import BackboneIdentity, SplitAccuracy, Task

if TYPE_CHECKING:
    from mimi_edge.export.engines.shelf.sidecars import Sidecar
    from mimi_edge.export.external_data import VerifiedGraph
    from mimi_edge.export.graphs import GraphInfo
    from mimi_edge.export.open_packages import Package, Packages

BACKBONE = "backbone"
GRAPH_SUFFIX = ".onnx"
ENGINE_SUFFIXES = (".engine", ".plan")
ENGINE_BACKENDS = (Backend.TRT, Backend.TRT_RTX)
PRETRAINED = "pretrained"
SOURCES = "a package, a task file (.safetensors), a graph (.onnx) or an engine (.engine)"


@dataclass(frozen=True)
class Artefact:
    """One thing to measure.

    Attributes:
        name: of it, where no other artefact of the run has the same.
        kind: `backbone`, `task`, `graph` or `engine`.
        opening: how its process opens it.
        files: that it needs to run, each once.
        input_size: S, side in pixels of the images it takes.
        task: that it answers for, None for a bare backbone.
        task_file: where that task's header is, None where it is not at hand.
        preprocessing: what happens to an image before, None where nobody knows.
        precision: that it computes in.
        strategy: of an engine.
        neurons: of every site of the backbone, in network order.
        graph: a graph of the same arithmetic, to count operations in, as it was read; None where there is none.
        stored_accuracy: by split, as the task file says.
        origin: folder of the package, the graph, the task file or the engine it was found in.
        backbone: name of its backbone, None where nobody knows.
        batches: smallest and largest batch that it takes; None takes any.
        unproved: of an engine: why nobody knows that it answers what was trained; None where it was compared.
    """

    name: str
    kind: str
    opening: Opening
    files: tuple[Path, ...]
    input_size: int
    task: str | None = None
    task_file: Path | None = None
    preprocessing: Preprocessing | None = None
    precision: str = "fp32"
    strategy: str | None = None
    neurons: Mapping[str, int] | None = None
    graph: VerifiedGraph | None = None
    stored_accuracy: Mapping[str, SplitAccuracy] = field(default_factory=dict)
    origin: str = ""
    backbone: str | None = None
    batches: tuple[int, int] | None = None
    unproved: str | None = None

    @property
    def backend(self) -> Backend:
        """That runs it."""
        return self.opening.backend


@dataclass(frozen=True)
class Wanted:
    """What is asked of all sources.

    Attributes:
        backend: that runs packages, tasks and graphs; engines bring their own.
        tasks: names, None for all.
        threads: of the CPU's part.
        trust: take engines that are on no shelf.
        weights: of torch's backbone; None is `pretrained`.
        listener: hears what is left out.
    """

    backend: Backend = Backend.ORT_CPU
    tasks: tuple[str, ...] | None = None
    threads: int | None = None
    trust: bool = False
    weights: str | None = None
    listener: Listener = silent


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
        yield from _of_package(next(one for one in chosen if one.folder == source), wanted)
    elif source.suffix == GRAPH_SUFFIX:
        from mimi_edge.export.external_data import verify_graph
        from mimi_edge.export.open_packages import opened_graph

        _check_runs_graphs(source, wanted.backend)
        with opened_graph(source):
            artefact = _of_graph(verify_graph(source), None, wanted)
        yield artefact
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


# Packages.


def _of_package(package: Package, wanted: Wanted) -> Iterator[Artefact]:
    names = [name for name in package.tasks if wanted.tasks is None or name in wanted.tasks]
    if wanted.backend in ENGINE_BACKENDS:
        yield from _shelf(package, names, wanted)
        return
    make = _in_torch if wanted.backend is Backend.TORCH else _in_onnx_runtime
    yield make(package, None, wanted)
    for name in names:
        yield make(package, name, wanted)


def _in_onnx_runtime(package: Package, name: str | None, wanted: Wanted) -> Artefact:
    path = package.backbone_graph if name is None else package.task(name).graph
    kind, called = (BACKBONE, BACKBONE) if name is None else ("task", name)
    _check_runs_graphs(path, wanted.backend)
    task = None if name is None else package.task_file(name).task
    made = _of_graph(package.graph(path), task, wanted)
    return replace(made, kind=kind, name=called, origin=str(package.folder))


def _in_torch(package: Package, name: str | None, wanted: Wanted) -> Artefact:
    """Torch's model of the same; its bytes are those of the weights and of the task file."""
    like = _in_onnx_runtime(package, name, replace(wanted, backend=Backend.ORT_CPU))
    files = [package.backbone_weights] if like.task_file is None else [package.backbone_weights, like.task_file]
    return replace(
        like, opening=_torch_opening(package.backbone, like.task, like.task_file, wanted), files=tuple(files)
    )


def _torch_opening(backbone: BackboneIdentity, task: str | None, task_file: Path | None, wanted: Wanted) -> Opening:
    return Opening(
        TORCH,
        Backend.TORCH,
        path=task_file,
        threads=wanted.threads,
        task=task,
        backbone=backbone.name,
        weights=wanted.weights or PRETRAINED,
    )


def _shelf(package: Package, names: Sequence[str], wanted: Wanted) -> Iterator[Artefact]:
    from mimi_edge.export.engines.running.loaded import engines_for

    if not names:
        raise ConfigError(f"{package.folder} has no task, and engines answer for tasks. Export a task first.")
    wanted.listener(Note("There are no engines of bare backbones: ratios are to the first task."))
    for name, engine in engines_for(package, names, wanted.backend, listener=wanted.listener).items():
        yield replace(_engine(engine.path, engine.sidecar, package, name, wanted), name=name)


# Graphs and task files.


def _check_runs_graphs(path: Path, backend: Backend) -> None:
    if backend is Backend.TORCH or backend in ENGINE_BACKENDS:
        raise ConfigError(
            f"{path} is a graph, and --backend {backend.value} runs none. "
            "Choose ort-cpu, ort-cuda or ort-trt, or give its package."
        )


def _of_graph(verified: VerifiedGraph, task: Task | None, wanted: Wanted) -> Artefact:
    """A graph, with the task in it where that was read already."""
    path, info = verified.path, verified.info
    files = [path.parent / name for name in sorted(verified.files)]
    task_file = next((file for file in files if file.suffix == TASK_SUFFIX), None)
    if task is None and task_file is not None:
        task = read_task(task_file)
    return Artefact(
        name=path.name,
        kind="graph",
        opening=Opening(GRAPH, wanted.backend, path=path, threads=wanted.threads),
        files=(path, *files),
        input_size=info.input_size,
        task=None if info.task is None else info.task.name,
        task_file=task_file,
        preprocessing=info.preprocessing,
        neurons=_neurons(info),
        graph=verified,
        stored_accuracy={} if task is None else dict(task.header.accuracy),
        origin=str(path.parent),
        backbone=info.backbone.name,
    )


def _neurons(info: GraphInfo) -> dict[str, int] | None:
    """Of every site; 0 where a site was emptied."""
    if info.task is None:
        return None
    return {site.name: info.task.neurons.get(site.name, 0) for site in info.sites}


def _of_task_file(path: Path, packages: Packages, wanted: Wanted) -> Artefact:
    """A task file that lies in a package is measured there; one that lies alone needs torch."""
    task = read_task(path)
    if wanted.backend is Backend.TORCH:
        return _lone_task(path, task, wanted)
    inside = packages.at(path.parent) is not None
    package = _package(path.parent, [task.header.name], packages) if inside else None
    packaged = None if package is None else package.tasks.get(task.header.name)
    if package is None or packaged is None or packaged.task_file.name != path.name:
        raise ConfigError(
            f"{path} is a task file, and {wanted.backend.value} needs its backbone's graph: there is no package around "
            f"it. Make one: mimi-edge export {path} --output PACKAGE; or measure torch's model: --backend torch"
        )
    if wanted.backend in ENGINE_BACKENDS:
        return next(_shelf(package, [packaged.name], wanted))
    return _in_onnx_runtime(package, packaged.name, wanted)


def _lone_task(path: Path, task: Task, wanted: Wanted) -> Artefact:
    header = task.header
    return Artefact(
        name=header.name,
        kind="task",
        opening=_torch_opening(header.backbone, header.name, path, wanted),
        files=(path,),
        input_size=header.preprocessing.size,
        task=header.name,
        task_file=path,
        preprocessing=header.preprocessing,
        neurons=dict(task.neurons),
        stored_accuracy=dict(header.accuracy),
        origin=str(path.parent),
        backbone=header.backbone.name,
    )


# Engines.


def _of_engine(path: Path, chosen: Sequence[Package], packages: Packages, wanted: Wanted) -> Iterator[Artefact]:
    from mimi_edge.export.engines.shelf.shelf import open_engine

    _, sidecar = open_engine(path, trust=wanted.trust)
    package = _package_of(path, sidecar, chosen, packages)
    if package is None:
        yield _lone_engine(path, sidecar, wanted)
        return
    names = [name for name in package.tasks if name in sidecar.tasks or sidecar.strategy is not Strategy.PER_TASK]
    answered = [name for name in names if wanted.tasks is None or name in wanted.tasks]
    if not answered:
        raise ConfigError(f"{path} answers for {', '.join(names) or 'no task of its package'}; choose with --task.")
    for name in answered:
        made = _engine(path, sidecar, package, name, wanted)
        yield made if len(answered) == 1 else replace(made, name=f"{made.name}:{name}")


def _package_of(path: Path, sidecar: Sidecar, chosen: Sequence[Package], packages: Packages) -> Package | None:
    """The package whose shelf an engine is on, else the one of its backbone among the sources."""
    from mimi_edge.export.engines.shelf.shelf import FOLDER

    around = path.resolve().parent
    if around.name == FOLDER and packages.at(around.parent) is not None:
        return _package(
            around.parent, tuple(sidecar.tasks) if sidecar.strategy is Strategy.PER_TASK else None, packages
        )
    return next((one for one in chosen if one.backbone.sha256 == sidecar.backbone_sha256), None)


def _engine(path: Path, sidecar: Sidecar, package: Package, name: str, wanted: Wanted) -> Artefact:
    """An engine that answers for a task of a package."""
    like = _in_onnx_runtime(package, name, replace(wanted, backend=Backend.ORT_CPU))
    per_task = sidecar.strategy is Strategy.PER_TASK
    own = [path, _sidecar_path(path)]
    return replace(
        like,
        name=path.stem,
        kind="engine",
        opening=Opening(
            ENGINE,
            sidecar.backend,
            path=path,
            threads=wanted.threads,
            package=package.folder,
            task=name,
            trust=wanted.trust,
        ),
        files=tuple(own if per_task or like.task_file is None else [*own, like.task_file]),
        precision=sidecar.precision.value,
        strategy=sidecar.strategy.value,
        # Padded adapters compute more than the task has.
        graph=like.graph if per_task else None,
        origin=str(path.parent),
        batches=_batches(sidecar),
        unproved=sidecar.unproved,
    )


def _lone_engine(path: Path, sidecar: Sidecar, wanted: Wanted) -> Artefact:
    if sidecar.strategy is not Strategy.PER_TASK:
        raise ConfigError(f"{path} needs the tasks it answers for: give their package, too.")
    size = next((tensor.shape[-1] for tensor in sidecar.inputs if len(tensor.shape) == 4), None)
    if size is None or size < 1:
        raise ArtifactError(f"The sidecar of {path} names no images [B, 3, S, S] that go in. Build the engine again.")
    return Artefact(
        name=path.stem,
        kind="engine",
        opening=Opening(ENGINE, sidecar.backend, path=path, threads=wanted.threads, trust=wanted.trust),
        files=(path, _sidecar_path(path)),
        input_size=size,
        task=next(iter(sidecar.tasks), None),
        precision=sidecar.precision.value,
        strategy=sidecar.strategy.value,
        origin=str(path.parent),
        batches=_batches(sidecar),
        unproved=sidecar.unproved,
    )


def _sidecar_path(path: Path) -> Path:
    from mimi_edge.export.engines.shelf.sidecars import sidecar_name

    return path.with_name(sidecar_name(path.name))


def _batches(sidecar: Sidecar) -> tuple[int, int] | None:
    sizes = sidecar.ranges.get("batch") or sidecar.ranges.get("frames")
    return None if sizes is None else (sizes.smallest, sizes.largest)


def file_sizes(files: Iterable[Path]) -> dict[str, int]:
    """Bytes of files as they lie, by path; one that has several names is counted once.

    Raises:
        OSError: a file is missing.
    """
    sizes: dict[str, int] = {}
    seen: set[tuple[int, int]] = set()
    for path in files:
        status = path.stat()
        if (status.st_dev, status.st_ino) not in seen:
            seen.add((status.st_dev, status.st_ino))
            sizes[str(path)] = status.st_size
    return sizes
