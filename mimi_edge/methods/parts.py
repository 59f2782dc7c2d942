"""Methods that train some of the network's own parameters: all, those of attention or of MLPs, the last block, biases.

BitFit is of arXiv 2106.10199; the others are the baselines of arXiv 2311.03873 and 2203.12119. What is stored are the
parameters themselves, each as a vector or a matrix.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from mimi_edge.methods.description import Description, StoredTensor
from mimi_edge.methods.edits import Replace
from mimi_edge.methods.method import Method, NoSettings, setting
from mimi_edge.methods.network import TABLE, Network
from mimi_edge.methods.weights import Frozen, Shape, Stored, Weight, reshape

BIASES = (".bias", ".q_bias", ".v_bias")
"""Endings of the names of biases; some networks have those of queries and values as parameters of attention itself."""


@dataclass(frozen=True)
class BitFitSettings:
    """What counts as a bias."""

    tables: str = setting("no", "Whether tables of relative position biases are trained too.", choices=("no", "yes"))


def describe_full(network: Network, _: NoSettings) -> Description:
    """Every parameter."""
    return _own(network.parameters)


def describe_attention(network: Network, _: NoSettings) -> Description:
    """Every parameter of every attention."""
    return _own(network.parameters_of(block.attention.name for block in network.blocks))


def describe_mlp(network: Network, _: NoSettings) -> Description:
    """Every parameter of every MLP."""
    return _own(network.parameters_of(block.mlp.name for block in network.blocks))


def describe_last(network: Network, _: NoSettings) -> Description:
    """Every parameter of the last block."""
    return _own(network.parameters_of([network.blocks[-1].name]))


def describe_biases(network: Network, settings: BitFitSettings) -> Description:
    """Every bias, those of normalisations included."""
    endings = (*BIASES, TABLE) if settings.tables == "yes" else BIASES
    return _own({name: shape for name, shape in network.parameters.items() if name.endswith(endings)})


def describe_none(_: Network, __: NoSettings) -> Description:
    """Nothing: the head alone is trained."""
    return Description()


def _own(parameters: Mapping[str, Shape]) -> Description:
    """Parameters as their own replacements, which begin as they are."""
    tensors, edits = [], []
    for name, shape in parameters.items():
        flat = _flat(shape)
        first: Weight = Frozen(name) if flat == shape else reshape(Frozen(name), *flat)
        tensors.append(StoredTensor(name, flat, first))
        edits.append(Replace(name, Stored(name) if flat == shape else reshape(Stored(name), *shape)))
    return Description(tuple(tensors), (), tuple(edits))


def _flat(shape: Shape) -> Shape:
    """As a task file keeps it: leading ones go, and all but the first of more than two dimensions become one."""
    while len(shape) > 1 and shape[0] == 1:
        shape = shape[1:]
    return shape if len(shape) < 3 else (shape[0], math.prod(shape[1:]))


FULL = Method("full", "full fine-tuning", "arXiv 2311.03873", describe_full)
ATTENTION = Method("attention", "attention blocks", "arXiv 2311.03873", describe_attention)
MLP = Method("mlp", "MLP blocks", "arXiv 2311.03873", describe_mlp)
PARTIAL = Method("partial-1", "partial-1", "arXiv 2203.12119", describe_last)
BITFIT = Method("bitfit", "BitFit", "arXiv 2106.10199", describe_biases, BitFitSettings)
LINEAR = Method("linear", "linear probe", "arXiv 2203.12119", describe_none, head_alone=True)
