"""A loaded engine that answers for named tasks, whatever its strategy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mimi_edge.choices import Backend, Strategy
from mimi_edge.errors import ArtifactError, ConfigError
from mimi_edge.events import Listener, Note, silent
from mimi_edge.export.engines.running.cuda import open_cuda
from mimi_edge.export.engines.running.executor import Plan
from mimi_edge.export.engines.running.mixed import MixedRunner
from mimi_edge.export.engines.running.one_task import EngineRunner
from mimi_edge.export.engines.running.refit import RefitRunner
from mimi_edge.export.engines.running.shared import SharedRunner
from mimi_edge.export.engines.shelf.shelf import ShelvedEngine, open_engine, read_shelf
from mimi_edge.export.engines.shelf.sidecars import Sidecar, unproved_note
from mimi_edge.export.engines.tensorrt.bindings import load_bindings
from mimi_edge.export.open_packages import Package
from mimi_edge.export.shared.inputs import task_tensors
from mimi_edge.export.shared.layout import SharedLayout, misfits, read_layout
from mimi_edge.files import sha256_of
from mimi_edge.tasks.files import read_task
from mimi_edge.tasks.stores import Floats
from mimi_edge.tasks.task import Task

Answer = Callable[[str, Floats], dict[str, Floats]]
"""Name of a task and normalised images, float32 [B, 3, H, W] -> every output of the engine; logits [B, C] is one."""

ORDER = (
    (Strategy.PER_TASK, False),
    (Strategy.SHARED, False),
    (Strategy.SHARED, True),
    (Strategy.REFIT, False),
)
"""Which engine is taken where several could answer: the one with the fastest kernels first."""


@dataclass(frozen=True)
class EngineKind:
    """What has to be known of an engine to feed it.

    Attributes:
        strategy: how it serves tasks.
        mixed: each answer names its own task.
        layout: how tasks are padded for it, None for an engine of one task.
    """

    strategy: Strategy
    mixed: bool
    layout: SharedLayout | None

    @staticmethod
    def of(sidecar: Sidecar) -> EngineKind:
        """As a sidecar says.

        Raises:
            ArtifactError: it contradicts itself.
        """
        if (sidecar.layout is None) != (sidecar.strategy is Strategy.PER_TASK):
            raise ArtifactError(
                f"The sidecar of {sidecar.engine} has strategy {sidecar.strategy.value} and "
                f"{'no' if sidecar.layout is None else 'a'} layout, which do not go together. Build the engine again."
            )
        layout = None if sidecar.layout is None else read_layout(sidecar.layout)
        return EngineKind(sidecar.strategy, sidecar.mixed, layout)


@dataclass(frozen=True)
class LoadedEngine:
    """An engine that is ready.

    Attributes:
        answer: gives every output for a task and images.
        runner: that runs it, for what only this kind of engine can do.
    """

    answer: Answer
    runner: EngineRunner | SharedRunner | MixedRunner | RefitRunner


@contextmanager
def loaded(plan: Plan, kind: EngineKind, tasks: Sequence[Task]) -> Iterator[LoadedEngine]:
    """Loads a plan and makes tasks ready in it.

    Args:
        plan: to load.
        kind: of engine.
        tasks: to answer for; the one that was built in, for an engine per task.

    Raises:
        ArtifactError: the plan is damaged or for another GPU or version, or a task does not fit.
        MimiEdgeError: there is not enough memory.
    """
    if kind.layout is None:
        with EngineRunner(plan) as runner:
            yield LoadedEngine(lambda _task, images: runner.run_all(images), runner)
        return
    made = RefitRunner if kind.strategy is Strategy.REFIT else MixedRunner if kind.mixed else SharedRunner
    with made(plan) as several:
        for task in tasks:
            several.add(task.header.name, task_tensors(task, kind.layout), len(task.header.classes))
        if isinstance(several, MixedRunner):
            yield LoadedEngine(lambda task, images: _mixed_answer(several, task, images), several)
        else:
            yield LoadedEngine(lambda task, images: _switched_answer(several, task, images), several)


def _mixed_answer(runner: MixedRunner, task: str, images: Floats) -> dict[str, Floats]:
    return {"logits": np.stack(runner.answer(images, range(len(images)), [task] * len(images)))}


def _switched_answer(runner: SharedRunner | RefitRunner, task: str, images: Floats) -> dict[str, Floats]:
    runner.use(task)
    return runner.run_all(images)


def engines_for(
    package: Package, tasks: Sequence[str], backend: Backend, *, listener: Listener = silent
) -> dict[str, ShelvedEngine]:
    """For each task the engine on the package's shelf that answers for it.

    Raises:
        ArtifactError: the shelf is damaged.
        ConfigError: there is none for a task.
    """
    shelf = [one for one in read_shelf(package.folder).values() if one.sidecar.backend is backend]
    for stale in filter(None, (one.stale for one in shelf)):
        listener(Note(stale))
    usable = sorted((one for one in shelf if one.stale is None), key=_rank)
    found = {name: _first(package, name, usable) for name in tasks}
    missing = [name for name, engine in found.items() if engine is None]
    if missing:
        reasons = [f"  - {reason}" for name in missing for reason in _why_not(package, name, usable)]
        raise ConfigError(
            "\n".join(
                [
                    f"{package.folder} has no {backend.value} engine for {', '.join(missing)}.",
                    *reasons,
                    f"Build one here: mimi-edge export --format trt {package.folder}",
                ]
            )
        )
    return {name: engine for name, engine in found.items() if engine is not None}


def _rank(engine: ShelvedEngine) -> tuple[int, str]:
    return ORDER.index((engine.sidecar.strategy, engine.sidecar.mixed)), engine.name


def _first(package: Package, name: str, usable: Sequence[ShelvedEngine]) -> ShelvedEngine | None:
    task = read_task(package.task(name).task_file)
    return next((one for one in usable if _answers_for(one.sidecar, task)), None)


def _why_not(package: Package, name: str, usable: Sequence[ShelvedEngine]) -> Iterator[str]:
    """In what a task does not fit the engines that several tasks share."""
    task = read_task(package.task(name).task_file)
    for engine in usable:
        layout = EngineKind.of(engine.sidecar).layout
        if layout is not None:
            yield f"{name} does not fit {engine.name}: {'; '.join(misfits(task, layout))}"


def _answers_for(sidecar: Sidecar, task: Task) -> bool:
    """Whether a task is in an engine, or fits its padding."""
    kind = EngineKind.of(sidecar)
    return task.header.name in sidecar.tasks if kind.layout is None else not misfits(task, kind.layout)


@contextmanager
def opened(
    path: Path, package: Package, tasks: Sequence[str], *, trust: bool = False, listener: Listener = silent
) -> Iterator[Answer]:
    """Opens an engine's file after checking it, and makes tasks of a package ready in it.

    Args:
        path: of the engine.
        package: that the tasks are in.
        tasks: names of those to answer for.
        trust: take an engine that is on no shelf.
        listener: hears what cannot be used.

    Raises:
        ArtifactError: the engine is altered, of another backbone, task, GPU or version, or not to be trusted.
        ConfigError: there is no such task.
        MimiEdgeError: TensorRT or the GPU's driver are missing.
    """
    content, sidecar = open_engine(path, trust=trust)
    if sidecar.unproved is not None:
        listener(Note(unproved_note(path.name, sidecar.unproved)))
    kind = EngineKind.of(sidecar)
    _check_tasks(path, sidecar, package, tasks)
    plan = Plan(load_bindings(sidecar.backend), content, open_cuda(), name=path.name, listener=listener)
    read = [read_task(package.task(name).task_file) for name in tasks]
    with loaded(plan, kind, read) as engine:
        yield engine.answer


def _check_tasks(path: Path, sidecar: Sidecar, package: Package, tasks: Sequence[str]) -> None:
    if sidecar.backbone_sha256 != package.backbone.sha256:
        raise ArtifactError(f"{path} is of another backbone than {package.folder}. Build it from this package.")
    if sidecar.strategy is not Strategy.PER_TASK:
        return
    now: Mapping[str, str] = {name: sha256_of(package.task(name).task_file) for name in tasks}
    wrong = [name for name, sha256 in now.items() if sidecar.tasks.get(name) != sha256]
    if wrong:
        raise ArtifactError(
            f"{path} was built for {', '.join(sidecar.tasks)}; {', '.join(wrong)} of {package.folder} is not in it, or "
            "changed since. Build it again: mimi-edge export --format trt"
        )
