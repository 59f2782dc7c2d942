"""Drops nodes, initializers and operator sets that nothing uses."""

from __future__ import annotations

import onnx_ir as ir


def drop_unused(model: ir.Model) -> bool:
    """Removes everything that no output depends on."""
    from onnx_ir.passes.common import RemoveUnusedNodesPass, RemoveUnusedOpsetsPass

    nodes = RemoveUnusedNodesPass()(model)
    opsets = RemoveUnusedOpsetsPass()(model)
    return bool(nodes.modified or opsets.modified)
