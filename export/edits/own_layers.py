"""Which layers of a merged graph a task brought along, and which are the backbone's, with whatever weights."""

from __future__ import annotations

import onnx_ir as ir

from mimi_edge.export.edits.branches import INTO, OUT_OF
from mimi_edge.export.edits.heads import LAYER, SIDE
from mimi_edge.export.edits.tokens import FAR, FAR_SUM
from mimi_edge.export.passes.append_head import HEAD

ENDS = tuple(f".{name}" for name in (INTO, OUT_OF, FAR, FAR_SUM, LAYER))


def is_the_tasks_own(node: ir.Node) -> bool:
    """Whether a product is of a bottleneck, of tokens in attention, of a side network or of the head.

    The names that merging gave say so. A layer of the backbone whose weights a task replaced is none.
    """
    name = node.name or ""
    return name == HEAD or name.endswith(ENDS) or name.startswith(f"{SIDE}.")
