"""Rounds every adapter's neurons up to a multiple of eight with neurons of zeros.

Sixteen bytes are what tensor cores load at once: eight numbers in half precision. Rows of any other length fall back to
slower kernels. A neuron of zeros, with a bias of zero if it has one, adds phi(0) * 0 = 0, so nothing changes but the
shape.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from mimi_edge.export.passes.surgery import content, size_of
from mimi_edge.methods.bottlenecks import BIAS, DOWN, UP

MULTIPLE = 8
AXES = {DOWN: 1, UP: 0, DOWN + BIAS: 0}
"""Which axis of a weight counts the neurons."""


def rounded_up(neurons: int) -> int:
    """The multiple of eight that is not below a number of neurons."""
    return -neurons % MULTIPLE + neurons


def round_up_neurons(model: ir.Model) -> bool:
    """Widens the weights of every adapter whose weights are plain constants; run `fold_task_weights` before."""
    odd = [weights for weights in _adapters(model.graph) if content(weights[DOWN]).shape[AXES[DOWN]] % MULTIPLE]
    for weights in odd:
        for name, weight in weights.items():
            _widen(weight, AXES[name])
    return bool(odd)


def _adapters(graph: ir.Graph) -> list[dict[str, ir.Value]]:
    """Weights [M, N] and [N, M] of each adapter and its bias [N] if it has one, by the end of their names."""
    by_name = {name.removesuffix(".fp32"): value for name, value in graph.initializers.items()}
    sites = [name.removesuffix(DOWN) for name in by_name if name.endswith(DOWN)]
    found = [{end: by_name[site + end] for end in AXES if site + end in by_name} for site in sites]
    return [weights for weights in found if UP in weights and _is_adapter(size_of(weights[DOWN]), size_of(weights[UP]))]


def _is_adapter(down: tuple[int, ...] | None, up: tuple[int, ...] | None) -> bool:
    return down is not None and len(down) == 2 and up == down[::-1]


def _widen(weight: ir.Value, axis: int) -> None:
    values = content(weight)
    added = [(0, rounded_up(size) - size if index == axis else 0) for index, size in enumerate(values.shape)]
    wider = np.pad(values, added)
    weight.const_value = ir.tensor(wider, name=weight.name)
    weight.shape = ir.Shape(wider.shape)
