"""TensorRT and TensorRT for RTX under measurement: engines, from a package's shelf or by themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mimi_edge.choices import Strategy
from mimi_edge.errors import ArtifactError, ConfigError
from mimi_edge.events import Note
from mimi_edge.images.image_size import ImageSize
from mimi_edge.profiles.runtimes import onnx_runtime
from mimi_edge.profiles.runtimes.artefact import ENGINE, Artefact, Opening, Run, Wanted

if TYPE_CHECKING:
    from mimi_edge.export.engines.shelf.sidecars import Sidecar
    from mimi_edge.export.open_packages import Package


def check(wanted: Wanted) -> None:
    """Whoever opens an engine says what is missing; which library that takes, its sidecar says."""


def of_package(package: Package, tasks: Sequence[str], wanted: Wanted) -> Iterator[Artefact]:
    """For each task the engine on the package's shelf that answers for it."""
    from mimi_edge.export.engines.running.loaded import engines_for

    if not tasks:
        raise ConfigError(f"{package.folder} has no task, and engines answer for tasks. Export a task first.")
    wanted.listener(Note("There are no engines of bare backbones: ratios are to the first task."))
    for name, engine in engines_for(package, tasks, wanted.backend, listener=wanted.listener).items():
        yield replace(_engine(engine.path, engine.sidecar, package, name, wanted), name=name)


def of_task(package: Package, task: str, wanted: Wanted) -> Artefact:
    """The engine of one task of a package."""
    return next(of_package(package, [task], wanted))


def of_engine(path: Path, sidecar: Sidecar, package: Package | None, wanted: Wanted) -> Iterator[Artefact]:
    """An engine's file: an artefact for each task of its package that it answers for, or one without a package.

    Raises:
        ArtifactError: its sidecar names no images.
        ConfigError: it answers for none of the tasks, or needs a package.
    """
    if package is None:
        yield _alone(path, sidecar, wanted)
        return
    names = [name for name in package.tasks if name in sidecar.tasks or sidecar.strategy is not Strategy.PER_TASK]
    answered = [name for name in names if wanted.tasks is None or name in wanted.tasks]
    if not answered:
        raise ConfigError(f"{path} answers for {', '.join(names) or 'no task of its package'}; choose with --task.")
    for name in answered:
        made = _engine(path, sidecar, package, name, wanted)
        yield made if len(answered) == 1 else replace(made, name=f"{made.name}:{name}")


def load(opening: Opening) -> None:
    """Loads the library and makes a context on the GPU."""
    from mimi_edge.export.engines.running.cuda import open_cuda
    from mimi_edge.export.engines.tensorrt.bindings import load_bindings

    load_bindings(opening.backend)
    open_cuda()


@contextmanager
def opened(opening: Opening) -> Iterator[Run]:
    """The engine with the task that it answers for made ready in it."""
    from mimi_edge.export.engines.running.loaded import opened as opened_engine
    from mimi_edge.export.engines.running.one_task import EngineRunner
    from mimi_edge.export.engines.shelf.shelf import open_engine
    from mimi_edge.export.graphs import LOGITS
    from mimi_edge.export.open_packages import read_package

    if opening.package is not None and opening.task is not None:
        task = opening.task
        package = read_package(opening.package, [task], verify=False)
        with opened_engine(opening.file, package, [task], trust=opening.trust) as answer:
            yield lambda images: answer(task, images)[LOGITS]
        return
    from mimi_edge.export.engines.running.cuda import open_cuda
    from mimi_edge.export.engines.running.executor import Plan
    from mimi_edge.export.engines.tensorrt.bindings import load_bindings

    content, sidecar = open_engine(opening.file, trust=opening.trust)
    plan = Plan(load_bindings(sidecar.backend), content, open_cuda(), name=opening.file.name)
    with EngineRunner(plan) as runner:
        yield runner.run


def _engine(path: Path, sidecar: Sidecar, package: Package, name: str, wanted: Wanted) -> Artefact:
    """An engine that answers for a task of a package."""
    like = onnx_runtime.like_in_package(package, name)
    per_task = sidecar.strategy is Strategy.PER_TASK
    own = [path, _sidecar_path(path)]
    return replace(
        like,
        name=path.stem,
        kind=ENGINE,
        opening=Opening(
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


def _alone(path: Path, sidecar: Sidecar, wanted: Wanted) -> Artefact:
    if sidecar.strategy is not Strategy.PER_TASK:
        raise ConfigError(f"{path} needs the tasks it answers for: give their package, too.")
    sides = next((tensor.shape[-2:] for tensor in sidecar.inputs if len(tensor.shape) == 4), None)
    if sides is None or min(sides) < 1:
        raise ArtifactError(f"The sidecar of {path} names no images [B, 3, H, W] that go in. Build the engine again.")
    return Artefact(
        name=path.stem,
        kind=ENGINE,
        opening=Opening(sidecar.backend, path=path, threads=wanted.threads, trust=wanted.trust),
        files=(path, _sidecar_path(path)),
        input_size=ImageSize(*sides),
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
