"""Rounds every adapter's neurons up to a multiple of eight with neurons of zeros.

Sixteen bytes are what tensor cores load at once: eight numbers in half precision. Rows of any other length fall back to
slower kernels. A neuron of zeros adds phi(0) * 0 = 0, so nothing changes but the shape.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from mimi_edge.export.passes.surgery import content, size_of
from mimi_edge.tasks.task import DOWN, UP

MULTIPLE = 8
AXES = {DOWN: 1, UP: 0}
"""Which axis of a weight counts the neurons."""


def rounded_up(neurons: int) -> int:
    """The multiple of eight that is not below a number of neurons."""
    return -neurons % MULTIPLE + neurons


def round_up_neurons(model: ir.Model) -> bool:
    """Widens both weights of every adapter whose weights are plain constants; run `fold_task_weights` before."""
    odd = [(down, up) for down, up in _adapters(model.graph) if content(down).shape[AXES[DOWN]] % MULTIPLE]
    for down, up in odd:
        _widen(down, AXES[DOWN])
        _widen(up, AXES[UP])
    return bool(odd)


def _adapters(graph: ir.Graph) -> list[tuple[ir.Value, ir.Value]]:
    """Weights [M, N] and [N, M] of each adapter, found by their names in the task file."""
    by_name = {name.removesuffix(".fp32"): value for name, value in graph.initializers.items()}
    sites = [name.removesuffix(DOWN) for name in by_name if name.endswith(DOWN)]
    pairs = [(by_name[site + DOWN], by_name[site + UP]) for site in sites if site + UP in by_name]
    return [(down, up) for down, up in pairs if _is_adapter(size_of(down), size_of(up))]


def _is_adapter(down: tuple[int, ...] | None, up: tuple[int, ...] | None) -> bool:
    return down is not None and len(down) == len(AXES) and up == down[::-1]


def _widen(weight: ir.Value, axis: int) -> None:
    values = content(weight)
    added = [(0, rounded_up(size) - size if index == axis else 0) for index, size in enumerate(values.shape)]
    wider = np.pad(values, added)
    weight.const_value = ir.tensor(wider, name=weight.name)
    weight.shape = ir.Shape(wider.shape)
