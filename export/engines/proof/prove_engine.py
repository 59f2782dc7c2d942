"""Holds a freshly built engine against its tasks' own graphs in fp32, where a GPU is; says why not elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mimi_edge.choices import Precision
from mimi_edge.errors import ExportMismatchError
from mimi_edge.export.engine_graphs import engine_graph
from mimi_edge.export.engines.building.build import BuiltEngine
from mimi_edge.export.engines.building.drafts import Draft, TypedGraph
from mimi_edge.export.engines.building.work import EngineWork
from mimi_edge.export.engines.proof.bisection import Bisection, bisect, candidates, mark_outputs
from mimi_edge.export.engines.proof.proof import TOLERANCES, Proof, not_run, prove
from mimi_edge.export.engines.running.executor import Plan
from mimi_edge.export.engines.running.loaded import Answer, EngineKind, LoadedEngine, loaded
from mimi_edge.export.engines.running.refit import RefitRunner
from mimi_edge.export.engines.running.shared import SharedRunner
from mimi_edge.export.graphs import LOGITS, load_graph, read_graph_info
from mimi_edge.export.onnx_runtime import OnnxModel, open_graph, runtime_version
from mimi_edge.export.precision.quantise import Verdict, accuracy_drop, int8_verdict
from mimi_edge.images.decode import LabelledImages
from mimi_edge.images.preprocessing import normalise
from mimi_edge.parts import CPU, install_line
from mimi_edge.tasks.stores import Floats
from mimi_edge.tasks.task import Task

COMPARED = 64
"""Real images on which logits are compared, spread over the split."""
NOISE = 16
SWITCHES = 20
BATCH = 32


@dataclass(frozen=True)
class OfTask:
    """An engine that answers for one task.

    Attributes:
        answer: of the engine.
        task: name of the task.
    """

    answer: Answer
    task: str

    def run(self, images: Floats) -> Floats:
        """Normalised images, float32 [B, 3, H, W] -> logits, float32 [B, C]."""
        return self.answer(self.task, images)[LOGITS]

    def run_all(self, images: Floats) -> dict[str, Floats]:
        """Every output, by name."""
        return self.answer(self.task, images)


def proof_of(work: EngineWork, draft: Draft, graph: TypedGraph, built: BuiltEngine) -> dict[str, Any]:
    """Proves an engine for each of its tasks.

    Returns:
        For the sidecar: `reference`, and by task `outputs` and `accuracy`, each with figures or "not run: why".

    Raises:
        ExportMismatchError: the engine is off by more than its precision explains, with the worst layer; or INT8 is
            slower than fp16, or loses too much on the validation split.
    """
    why = cannot_run(work)
    if work.options.precision is Precision.INT8:
        verdict = _int8(work, draft, graph, built, can_run=why is None)
        return _proofs(work, draft, built, why) | {"int8": list(verdict.reasons)}
    return _proofs(work, draft, built, why)


def cannot_run(work: EngineWork) -> str | None:
    """Why an engine cannot be held against anything here; None where it can."""
    if work.machine.cuda is None:
        return work.machine.no_gpu or "there is no GPU"
    if work.options.compute_capabilities:
        return "the engine was built for GPUs that were named, not for the one that is here"
    if runtime_version() is None:
        return f"there is nothing to compare with; for ONNX Runtime: {install_line(CPU)}"
    return None


def _proofs(work: EngineWork, draft: Draft, built: BuiltEngine, why: str | None) -> dict[str, Any]:
    if why is not None:
        return not_run(why).document()
    with running(work, draft, built) as engine:
        proofs = {task.header.name: _proof(work, draft, task, engine.answer) for task in draft.tasks}
        switches = _switches(draft, engine)
    documents = {name: proof.document() for name, proof in proofs.items()}
    return {
        "reference": next(iter(documents.values()))["reference"],
        **{part: {name: document[part] for name, document in documents.items()} for part in ("outputs", "accuracy")},
        **switches,
    }


def _switches(draft: Draft, engine: LoadedEngine) -> dict[str, Any]:
    """What switching costs, and that a task answers the same before and after another one was in use.

    Raises:
        ExportMismatchError: it does not.
    """
    runner = engine.runner
    if not isinstance(runner, SharedRunner | RefitRunner) or len(draft.tasks) < 2:
        return {}
    first, second = (task.header.name for task in draft.tasks[:2])
    images = compared_images(draft.tasks[0], None)[:1]
    before = _settled(engine, first, images)
    times_ns = []
    for turn in range(SWITCHES):
        started = time.perf_counter_ns()
        runner.use(second if turn % 2 == 0 else first)
        times_ns.append(time.perf_counter_ns() - started)
        runner.run(images)
    if not np.array_equal(before, _settled(engine, first, images)):
        raise ExportMismatchError(
            f"The engine answers otherwise for {first} after {second} was in use. Nothing was published. "
            "Use --strategy per-task, and report this."
        )
    return {"switch": {"bit_equal": True, "times": SWITCHES, "p50_us": float(np.median(times_ns)) / 1000}}


def _settled(engine: LoadedEngine, task: str, images: Floats) -> Floats:
    """Logits of a task once nothing is prepared any more: like is compared with like, a replayed graph with another."""
    engine.answer(task, images)
    return engine.answer(task, images)[LOGITS]


def _proof(work: EngineWork, draft: Draft, task: Task, answer: Answer) -> Proof:
    reference = _reference(work, task)
    report = work.images(task.header.name).test()
    is_quantised = work.options.precision is Precision.INT8
    has_judge = not is_quantised or work.images(task.header.name).validation() is not None
    images = compared_images(task, report)
    return prove(
        OfTask(answer, task.header.name),
        reference,
        images,
        work.options.precision,
        name=f"The engine of {task.header.name}",
        preprocessing=task.header.preprocessing,
        report=_split("test", report, task),
        judge=lambda: _split("val", work.images(task.header.name).validation(), task),
        # Images that may choose nothing cannot judge either.
        max_accuracy_drop=work.options.max_accuracy_drop if has_judge else 1.0,
        find_worst=lambda: _worst(work, draft, task, reference, images[:1]),
    )


def _split(name: str, images: LabelledImages | None, task: Task) -> LabelledImages | None:
    return None if images is None else replace(images, name=name, expected=task.header.accuracy.get(name))


def _reference(work: EngineWork, task: Task) -> OnnxModel:
    """The task's own graph in fp32."""
    return open_graph(work.package.task(task.header.name).graph, threads=work.threads)


def compared_images(task: Task, split: LabelledImages | None) -> Floats:
    """Normalised images spread over a split, or noise where there is none."""
    if split is None or not len(split.images):
        size = task.header.preprocessing.size
        return np.random.default_rng(0).standard_normal((NOISE, 3, *size), np.float32)
    chosen = np.linspace(0, len(split.images) - 1, min(COMPARED, len(split.images))).astype(np.int64)
    return normalise(split.images[chosen], task.header.preprocessing)


@contextmanager
def running(work: EngineWork, draft: Draft, built: BuiltEngine) -> Iterator[LoadedEngine]:
    """The engine, loaded, with all its tasks ready."""
    cuda = work.machine.cuda
    assert cuda is not None  # noqa: S101  (asked before)
    kind = EngineKind(draft.strategy, draft.mixed, draft.layout)
    plan = Plan(work.machine.bindings, built.plan, cuda, listener=work.listener)
    with loaded(plan, kind, draft.tasks) as engine:
        yield engine


# Which layer is to blame.


def _worst(work: EngineWork, draft: Draft, task: Task, reference: OnnxModel, images: Floats) -> Bisection:
    """Builds the engine again with some of its layers as outputs, until the first wrong one is found."""
    # A mixed engine gives logits alone. What it adds to a shared one lies between the layers.
    plain = replace(work, options=replace(work.options, mixed=False))
    again = plain.draft([one.header.name for one in draft.tasks])
    graph = plain.typed(again)
    sites = [site.name for site in read_graph_info(work.package.backbone_graph).sites]
    right = load_graph(reference.path)
    names = [name for name in candidates(graph.model, right, sites) if name != LOGITS]
    return bisect(
        names,
        lambda marked: _Rebuilt(plain, again, graph, task.header.name, tuple(marked)),
        lambda marked: _MarkedReference(work, task, tuple(marked)),
        images,
        TOLERANCES.get(work.options.precision, max(TOLERANCES.values())),
    )


@dataclass(frozen=True)
class _Rebuilt:
    """The engine with some values marked, built when it is asked."""

    work: EngineWork
    draft: Draft
    graph: TypedGraph
    task: str
    marked: tuple[str, ...]

    def run_all(self, images: Floats) -> dict[str, Floats]:
        built = self.work.built(self.draft, self.graph, "the engine with marked layers", marked=self.marked)
        with running(self.work, self.draft, built) as engine:
            return engine.answer(self.task, images)


@dataclass(frozen=True)
class _MarkedReference:
    """A task's graph in ONNX Runtime with some values marked."""

    work: EngineWork
    task: Task
    marked: tuple[str, ...]

    def run_all(self, images: Floats) -> dict[str, Floats]:
        path = self.work.package.task(self.task.header.name).graph
        model = load_graph(path)
        mark_outputs(model, self.marked)
        with engine_graph(model, path.parent) as marked:
            opened = open_graph(marked, threads=self.work.threads)
            names = [output.name for output in opened.session.get_outputs()]
            return dict(zip(names, opened.session.run(names, {"images": images}), strict=True))


# Whether INT8 is worth having.


def _int8(work: EngineWork, draft: Draft, graph: TypedGraph, built: BuiltEngine, *, can_run: bool) -> Verdict:
    """Judges INT8 by the validation split, and where a GPU is by its speed beside fp16.

    Raises:
        ExportMismatchError: it is slower, or loses too much.
    """
    (task,) = draft.tasks
    validation = work.images(task.header.name).validation()
    if can_run:
        with running(work, draft, built) as engine:
            drop = _drop(work, task, validation, OfTask(engine.answer, task.header.name).run)
            speed = _speed(work, task, OfTask(engine.answer, task.header.name))
    else:
        speed = None
        with engine_graph(graph.model, work.package.folder) as path:
            drop = _drop(work, task, validation, open_graph(path, threads=work.threads).run)
    if drop is None:
        return Verdict(True, ("accuracy not judged: no validation images were given",))
    verdict = int8_verdict(speed, drop, work.options.max_accuracy_drop)
    if not verdict.offered:
        raise ExportMismatchError(
            f"INT8 is not worth having for {task.header.name}: {'; '.join(verdict.reasons)}. Nothing was published. "
            "Use --precision fp16, or allow a larger --max-accuracy-drop."
        )
    return verdict


def _drop(
    work: EngineWork, task: Task, validation: LabelledImages | None, run: Callable[[Floats], Floats]
) -> float | None:
    if validation is None:
        return None
    reference = _reference(work, task)
    logits = [_logits(each, validation, task) for each in (reference.run, run)]
    return accuracy_drop(logits[0], logits[1], validation.labels)


def _logits(run: Callable[[Floats], Floats], split: LabelledImages, task: Task) -> Floats:
    starts: Sequence[int] = range(0, len(split.images), BATCH)
    parts = [run(normalise(split.images[start : start + BATCH], task.header.preprocessing)) for start in starts]
    return np.concatenate(parts)


def _speed(work: EngineWork, task: Task, quantised: OfTask) -> Any | None:
    """Time of one image in INT8 over that in fp16, measured in turns."""
    if work.speed is None:
        return None
    other = replace(work, options=replace(work.options, precision=Precision.FP16))
    draft = other.draft([task.header.name])
    built = other.built(draft, other.typed(draft), "an fp16 engine to compare with")
    image = compared_images(task, None)[:1]
    with running(other, draft, built) as engine:
        half = OfTask(engine.answer, task.header.name)
        return work.speed(lambda: quantised.run(image), lambda: half.run(image))
