"""Parameters of the backbone that a task replaces: whoever took the old value takes the new one."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from mimi_edge.export.edits.expressions import Expressions
from mimi_edge.export.graphs import Kept
from mimi_edge.methods.edits import Replace
from mimi_edge.methods.network import side_of_window

LARGEST_POWER = math.log(100)
"""Where Swin V2 cuts its scales of products of queries and keys."""


def prepared_replacement(edit: Replace, expressions: Expressions) -> Callable[[], None]:
    """Notes who takes a parameter now, before expressions of any edit take it, too; the result does the replacing.

    Raises:
        ArtifactError: the graph does not have the parameter.
    """
    old = expressions.initializer(edit.parameter)
    uses = tuple(old.uses())

    def replace() -> None:
        # Several parameters may lie in one value, so what is there now may have changed since.
        now = uses[0].node.inputs[uses[0].idx] if uses else None
        new = _as_kept(edit, expressions, old, now or old)
        for node, index in uses:
            node.replace_input_with(index, new)

    return replace


def _as_kept(edit: Replace, expressions: Expressions, old: ir.Value, now: ir.Value) -> ir.Value:
    kept, value = expressions.kept(edit.parameter), expressions.value(edit.becomes)
    match kept.kept:
        case Kept.AS_IT_IS:
            return value
        case Kept.TRANSPOSED:
            return expressions.node("Transpose", value, perm=[1, 0])
        case Kept.GATHERED:
            shape = () if old.shape is None else old.shape.numpy()
            places = relative_positions(side_of_window(kept.shape))
            gathered = expressions.node("Gather", value, expressions.integers(*places.ravel().tolist()), axis=0)
            turned = expressions.node("Transpose", gathered, perm=[1, 0])
            return expressions.node("Reshape", turned, expressions.integers(*shape))
        case Kept.FIRST_THIRD:
            begin, end = expressions.integers(kept.shape[0]), expressions.integers(3 * kept.shape[0])
            rest = expressions.node("Slice", now, begin, end, expressions.integers(0))
            return expressions.node("Concat", value, rest, axis=0)
        case Kept.LAST_THIRD:
            begin, end = expressions.integers(0), expressions.integers(2 * kept.shape[0])
            rest = expressions.node("Slice", now, begin, end, expressions.integers(0))
            return expressions.node("Concat", rest, value, axis=0)
        case Kept.POWER:
            shape = () if old.shape is None else old.shape.numpy()
            power = expressions.node("Exp", expressions.node("Min", value, expressions.number(LARGEST_POWER)))
            return expressions.node("Reshape", power, expressions.integers(*shape))


def relative_positions(window: int) -> NDArray[np.int64]:
    """[W^2, W^2]: which row of a table of relative position biases two places in a window of side W look up."""
    rows, columns = np.divmod(np.arange(window * window), window)
    down = rows[:, None] - rows[None, :] + window - 1
    right = columns[:, None] - columns[None, :] + window - 1
    positions: NDArray[np.int64] = down * (2 * window - 1) + right
    return positions
