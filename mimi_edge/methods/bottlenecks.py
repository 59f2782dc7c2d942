"""What methods with bottlenecks have in common: two matrices beside a sub-layer."""

from __future__ import annotations

from mimi_edge.methods.description import ZEROS, Axis, Description, Normal, StoredTensor
from mimi_edge.methods.edits import Branch
from mimi_edge.methods.weights import Stored, Weight
from mimi_edge.sites import Site

DOWN = ".down"
UP = ".up"
BIAS = ".bias"
FIRST_STD = 0.01
"""Of the first weights, at every site alike: where wide sites start with smaller weights, they lose all competition."""


def bottleneck(
    site: Site,
    neurons: int,
    activation: str,
    *,
    biases: bool = False,
    scale: float | Weight = 1.0,
    parallel: bool = False,
) -> Description:
    """h + scale * phi(x @ down) @ up behind a sub-layer, down [M, N] and up [N, M]; it starts as the identity.

    Args:
        site: whose output is h.
        neurons: N.
        activation: phi.
        biases: whether one stands behind each matrix; neurons of zeros then still change nothing.
        scale: a number, or a weight [M].
        parallel: whether x is the sub-layer's input instead of h.
    """
    down, up = site.name + DOWN, site.name + UP
    tensors = [
        StoredTensor(down, (site.width, neurons), Normal(FIRST_STD)),
        StoredTensor(up, (neurons, site.width), ZEROS),
    ]
    along = {down: 1, up: 0}
    if biases:
        tensors += [StoredTensor(down + BIAS, (neurons,), ZEROS), StoredTensor(up + BIAS, (site.width,), ZEROS)]
        along[down + BIAS] = 0
    branch = Branch(
        site.name,
        Stored(down),
        Stored(up),
        activation,
        scale,
        down_bias=Stored(down + BIAS) if biases else None,
        up_bias=Stored(up + BIAS) if biases else None,
        parallel=parallel,
    )
    return Description(tuple(tensors), (Axis(site.name, neurons, along),), (branch,))
