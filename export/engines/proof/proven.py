"""Engines that were built and proved, and are published nowhere yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mimi_edge.export.engines.building.build import BuiltEngine
from mimi_edge.export.engines.building.drafts import Draft, TypedGraph
from mimi_edge.export.engines.building.work import EngineWork
from mimi_edge.export.engines.proof.prove_engine import proof_of
from mimi_edge.export.precision.half import FP32_OPERATORS


@dataclass(frozen=True)
class Made:
    """An engine that was built and proved, and is published nowhere yet.

    Attributes:
        draft: what it was made from.
        graph: in the precision of the engine.
        built: the engine.
        check: what the proof found, for the sidecar.
    """

    draft: Draft
    graph: TypedGraph
    built: BuiltEngine
    check: Mapping[str, Any]


def made(
    work: EngineWork,
    names: Sequence[str],
    label: str,
    fp32_operators: Mapping[str, str] = FP32_OPERATORS,
    *,
    looked_at: TypedGraph | None = None,
) -> Made:
    """The engine of these tasks, built and proved.

    Args:
        work: of the export.
        names: of the tasks.
        label: how messages call it.
        fp32_operators: that stay in fp32 whatever the precision, with the reason.
        looked_at: a graph of the same tasks for which overflow was looked for already.

    Raises:
        ExportMismatchError: it does not answer what the tasks' graphs answer.
    """
    draft = work.draft(names)
    graph = work.typed(draft, fp32_operators, looked_at=looked_at)
    built = work.built(draft, graph, label)
    return Made(draft, graph, built, proof_of(work, draft, graph, built))
