"""Takes the probe adapters out again and leaves each site's value named after its site.

A probe is `h + relu(h @ down) @ up` with rank 1. It exists only while torch exports: its two initializers are found by
name, and where they are used is where the site is.
"""

from __future__ import annotations

import onnx_ir as ir

from mimi_edge.errors import ExportMismatchError

PREFIX = "probes."
PROBE_DOWN = ".down"
PROBE_UP = ".up"
STEPS = ("MatMul", "Relu", "MatMul", "Add")


def cut_probes(model: ir.Model) -> bool:
    """Removes every probe's nodes and initializers.

    Raises:
        ExportMismatchError: the exporter changed a probe so that it is not recognised any more.
    """
    graph = model.graph
    downs = [name for name in graph.initializers if name.startswith(PREFIX) and name.endswith(PROBE_DOWN)]
    for name in downs:
        _cut(graph, name[len(PREFIX) : -len(PROBE_DOWN)])
    return bool(downs)


def _cut(graph: ir.Graph, site: str) -> None:
    down = PREFIX + site + PROBE_DOWN
    up = PREFIX + site + PROBE_UP
    chain = _chain(graph.initializers[down], site)
    value = chain[0].inputs[0]
    if value is None or chain[2].inputs[1] is not graph.initializers[up]:
        raise _changed(site)
    ir.convenience.replace_all_uses_with(chain[-1].outputs[0], value)
    graph.remove(chain[::-1], safe=True)
    for name in (down, up):
        del graph.initializers[name]
    value.name = site


def _chain(down: ir.Value, site: str) -> list[ir.Node]:
    """The probe's four nodes, each the only user of the one before."""
    chain: list[ir.Node] = []
    value = down
    for step in STEPS:
        uses = tuple(value.uses())
        if len(uses) != 1 or uses[0].node.op_type != step:
            raise _changed(site)
        chain.append(uses[0].node)
        value = chain[-1].outputs[0]
    if chain[0].inputs[0] not in chain[-1].inputs:
        raise _changed(site)
    return chain


def _changed(site: str) -> ExportMismatchError:
    return ExportMismatchError(
        f"The exporter rewrote what marks site {site}: expected {', '.join(STEPS)} after one another. "
        "This torch or onnxscript is newer or older than mimi-edge knows: install the versions in constraints.txt."
    )
