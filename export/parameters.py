"""Where an exported graph has the backbone's parameters: by name, or by content where folding lost the name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from mimi_edge.export.edits.replacements import LARGEST_POWER, relative_positions
from mimi_edge.export.graphs import Kept, KeptParameter
from mimi_edge.methods.network import TABLE, side_of_window
from mimi_edge.tasks.stores import Floats

QUERIES_BIAS, VALUES_BIAS = ".q_bias", ".v_bias"
"""Endings of the names of biases that a network puts one behind the other, zeros for keys between them."""
SCALE_OF_PRODUCTS = ".logit_scale"
"""Ending of the names of scales of products of queries and keys, in Swin V2 and after it: powers of e."""
PREFIX = "backbone."
"""Of the names of the backbone's parameters while it is exported."""


def find_parameters(model: ir.Model, parameters: Mapping[str, Floats]) -> dict[str, KeptParameter]:
    """Finds parameters among the initializers of a graph; one that is not found cannot be replaced by a task.

    Args:
        model: as it was exported and simplified, its weights in memory.
        parameters: of the backbone, by torch's names.
    """
    initializers = model.graph.initializers
    found = {
        name: KeptParameter(PREFIX + name, Kept.AS_IT_IS, values.shape)
        for name, values in parameters.items()
        if _is(initializers.get(PREFIX + name), values)
    }
    taken = {kept.initializer for kept in found.values()}
    by_content: dict[bytes, list[str]] = {}
    for name, value in initializers.items():
        if name not in taken and value.dtype == ir.DataType.FLOAT and value.const_value is not None:
            by_content.setdefault(_content(value.const_value.numpy()), []).append(name)
    for name, values in parameters.items():
        for kept, folded in _folded(name, values, parameters) if name not in found else ():
            if names := by_content.get(_content(folded)):
                # Of several that are alike, each is taken once, in the order of both.
                found[name] = KeptParameter(names.pop(0), kept, values.shape)
                break
        beside = name.removesuffix(VALUES_BIAS) + QUERIES_BIAS
        if name.endswith(VALUES_BIAS) and beside in found:
            found[name] = KeptParameter(found[beside].initializer, Kept.LAST_THIRD, values.shape)
    return {name: found[name] for name in parameters if name in found}


def _is(initializer: ir.Value | None, values: Floats) -> bool:
    """Whether an initializer is a parameter and not what something was folded into under its name."""
    if initializer is None or initializer.const_value is None:
        return False
    return _content(initializer.const_value.numpy()) == _content(values)


def _folded(name: str, values: Floats, parameters: Mapping[str, Floats]) -> Iterator[tuple[Kept, Floats]]:
    """What the exporter may have made of a parameter."""
    if name.endswith(QUERIES_BIAS):
        keys, of_values = np.zeros_like(values), parameters[name.removesuffix(QUERIES_BIAS) + VALUES_BIAS]
        yield Kept.FIRST_THIRD, np.concatenate([values, keys, of_values])
        return
    if name.endswith(VALUES_BIAS):
        return
    yield Kept.AS_IT_IS, values
    if name.endswith(SCALE_OF_PRODUCTS):
        power = np.exp(np.minimum(values, np.float32(LARGEST_POWER)))
        yield Kept.POWER, power
        yield Kept.POWER, power.reshape(1, -1, 1, 1)
    if values.ndim == 2:
        yield Kept.TRANSPOSED, values.T
    if name.endswith(TABLE):
        window = side_of_window(values.shape)
        if (2 * window - 1) ** 2 == len(values):
            tokens = window * window
            gathered = values[relative_positions(window).ravel()].T
            yield Kept.GATHERED, gathered.reshape(1, values.shape[1], tokens, tokens)


def _content(values: Any) -> bytes:
    return repr(values.shape).encode() + np.ascontiguousarray(values, np.float32).tobytes()
