"""Whether an engine computes Softmax in fp32 or in half precision, where TensorRT may fuse attention into one kernel.

In a strongly typed network the casts around a Softmax in fp32 may keep attention from being fused, which was reported
to cost several times the time on an H100. Fused attention in half precision was also reported to answer wrong, without
a word, on other GPUs. So neither is taken on trust: where an engine can be run, both are built, proved and timed in
turns, and the faster one whose proof holds is kept. Elsewhere Softmax stays in fp32.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mimi_edge.errors import ExportMismatchError
from mimi_edge.events import Note
from mimi_edge.export.engines.building.work import EngineWork
from mimi_edge.export.engines.proof.prove_engine import cannot_run, compared_images, running
from mimi_edge.export.engines.proof.proven import Made, made
from mimi_edge.export.graphs import LOGITS
from mimi_edge.export.precision.half import FP32_OPERATORS, HALVES

SOFTMAX = frozenset({"Softmax", "LogSoftmax"})
FUSABLE = {operator: reason for operator, reason in FP32_OPERATORS.items() if operator not in SOFTMAX}
"""Operators that stay in fp32 where attention is to be fused."""
FUSED = re.compile(r"f?mha|flash|fused_?attention|multi_?head", re.IGNORECASE)
"""What TensorRT calls its kernels for whole attentions; from public logs of 8.6 to 10.16."""


def made_for_attention(work: EngineWork, names: Sequence[str], label: str) -> Made:
    """Builds and proves the engine of these tasks in the form of Softmax that is the faster one here.

    Its check says under `softmax` which form that is, why, and how many attention kernels each form has.

    Raises:
        ExportMismatchError: no form answers what the tasks' graphs answer.
        EngineBuildError: TensorRT cannot build it.
    """
    precision = work.options.precision
    if precision not in HALVES:
        return made(work, names, label)
    why = cannot_run(work) or (None if work.speed is not None else "nobody asked for times")
    if why is not None:
        return _noted(made(work, names, label), "fp32", f"the default, not measured: {why}", {})
    safe = _tried(lambda: made(work, names, label))
    looked_at = None if isinstance(safe, ExportMismatchError) else safe.graph
    in_half = f"{label}, Softmax in {precision.value}"
    fused = _tried(lambda: made(work, names, in_half, FUSABLE, looked_at=looked_at))
    if isinstance(fused, ExportMismatchError):
        return _noted(_right(safe), "fp32", f"in {precision.value} it does not answer what was trained", {})
    if isinstance(safe, ExportMismatchError):
        return _noted(fused, precision.value, "in fp32 it does not answer what was trained", {})
    return _faster(work, safe, fused)


def _tried(make: Callable[[], Made]) -> Made | ExportMismatchError:
    """What is made, or why it must not be used."""
    try:
        return make()
    except ExportMismatchError as wrong:
        return wrong


def _right(made: Made | ExportMismatchError) -> Made:
    if isinstance(made, ExportMismatchError):
        raise made
    return made


def attention_kernels(layers: Sequence[Any]) -> int:
    """How many layers of an engine are whole attentions in one kernel, by what the engine inspector says of each."""
    return sum(1 for layer in layers if FUSED.search(_spelled_out(layer)))


def _spelled_out(layer: Any) -> str:
    """The kernel's name where the engine kept it, else the layer's own."""
    if not isinstance(layer, Mapping):
        return str(layer)
    return str(layer.get("TacticName") or layer.get("Name") or "")


def _faster(work: EngineWork, safe: Made, fused: Made) -> Made:
    """The form in half precision where it is seen to be faster, else the other one."""
    half = work.options.precision.value
    ratio, kernels = _measured(work, safe, fused)
    is_faster = ratio.high < 1
    why = f"{half} / fp32 took {ratio.value:.3f} of the time ({ratio.low:.3f} to {ratio.high:.3f})"
    counted = {"fp32": kernels[0], half: kernels[1]}
    made = _noted(fused, half, why, counted) if is_faster else _noted(safe, "fp32", why, counted)
    work.listener(Note(f"Softmax in {made.check['softmax']['computes_in']}: {why}; attention kernels: {counted}."))
    return made


def _measured(work: EngineWork, safe: Made, fused: Made) -> tuple[Any, tuple[int, int]]:
    """Time of one image in the fused form over that in the safe one, taken in turns; attention kernels of both."""
    assert work.speed is not None  # noqa: S101  (asked before)
    task = safe.draft.tasks[0]
    image = compared_images(task, None)[:1]
    with running(work, safe.draft, safe.built) as one, running(work, fused.draft, fused.built) as other:
        kernels = tuple(
            attention_kernels(work.machine.bindings.layers(engine.runner.executor.engine)) for engine in (one, other)
        )
        ratio = work.speed(
            lambda: other.answer(task.header.name, image)[LOGITS], lambda: one.answer(task.header.name, image)[LOGITS]
        )
    return ratio, (kernels[0], kernels[1])


def _noted(made: Made, softmax: str, why: str, kernels: Mapping[str, int]) -> Made:
    said = {"computes_in": softmax, "why": why, "attention_kernels": dict(kernels) or None}
    return replace(made, check={**made.check, "softmax": said})
