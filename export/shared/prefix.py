"""The common prefix: what no adapter reaches is computed once for each frame, the rest once for each answer.

The graph is cut where the first adapters are. Values that cross the cut have rows for each frame; a `Gather` gives each
answer the rows of its frame. A value with several rows for an image, such as Swin's windows, is gathered by images.
What was computed from shapes alone follows the batch, so the rest gets its own copy that follows the answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

import onnx_ir as ir

from mimi_edge.export.passes.surgery import new_node
from mimi_edge.export.shared.nodes import reshape
from mimi_edge.export.shared.shapes import Shapes, flops_of
from mimi_edge.sites import Site


class _Kind(IntEnum):
    """What a value depends on: weights alone, only the batch's size, or what is in the images."""

    CONSTANT = 0
    SIZE = 1
    CONTENT = 2


@dataclass(frozen=True)
class Prefix:
    """What lies before the first adapter of any task.

    Attributes:
        blocks: whole blocks there.
        of_blocks: in the backbone.
        flops_share: of the bare backbone's products and convolutions, 0..1.
    """

    blocks: int
    of_blocks: int
    flops_share: float


def after_adapters(graph: ir.Graph, used: Mapping[str, ir.Value]) -> set[ir.Node]:
    """The nodes that an adapter at one of these sites' values reaches."""
    reached = set(used.values())
    nodes: set[ir.Node] = set()
    for each in graph:
        if any(value in reached for value in each.inputs if value is not None):
            nodes.add(each)
            reached.update(each.outputs)
    return nodes


def prefix_of(
    graph: ir.Graph, rest: set[ir.Node], sites: Sequence[Site], used: Sequence[str], shapes: Shapes
) -> Prefix:
    """What lies before the first adapter, in a graph into which none was put yet."""
    before = [each for each in graph if each not in rest]
    names = {value.name for each in before for value in each.outputs} - set(used)
    blocks: dict[str, list[bool]] = {}
    for site in sites:
        blocks.setdefault(site.name.rpartition(".")[0], []).append(site.name in names)
    whole = flops_of(graph, shapes)
    share = flops_of(before, shapes) / whole if whole else 0.0
    return Prefix(sum(map(all, blocks.values())), len(blocks), share)


class PrefixCut:
    """Cuts one graph into what is computed for each frame and what for each answer."""

    def __init__(self, model: ir.Model, rest: set[ir.Node], frame_of_answer: ir.Value, shapes: Shapes) -> None:
        self._graph = model.graph
        self._rest = rest
        self._index = frame_of_answer
        self._shapes = shapes
        self._kinds = self._sorted()
        self._crossed: dict[ir.Value, ir.Value] = {}

    def cut(self) -> None:
        """Makes everything after the cut, and the graph's outputs, follow the answers."""
        for each in [each for each in self._graph if each in self._rest]:
            for position, value in enumerate(each.inputs):
                if value is not None:
                    each.replace_input_with(position, self.crossed(value))
        for position, output in enumerate(self._graph.outputs):
            self._graph.outputs[position] = self.crossed(output)

    def crossed(self, value: ir.Value) -> ir.Value:
        """The value as the answers see it; itself where it is of the rest already, or the same for all images."""
        kind = self._kinds.get(value, _Kind.CONSTANT)
        if kind is _Kind.CONSTANT or value.producer() in self._rest:
            return value
        if value not in self._crossed:
            self._crossed[value] = self._sized(value) if kind is _Kind.SIZE else self._gathered(value)
        return self._crossed[value]

    def _sorted(self) -> dict[ir.Value, _Kind]:
        kinds: dict[ir.Value, _Kind] = dict.fromkeys(self._graph.inputs, _Kind.CONTENT)
        for each in self._graph:
            given = [kinds.get(value, _Kind.CONSTANT) for value in each.inputs if value is not None]
            kind = max(given, default=_Kind.CONSTANT)
            if each.op_type in {"Shape", "Size"}:
                kind = min(kind, _Kind.SIZE)
            kinds |= dict.fromkeys(each.outputs, kind)
        return kinds

    def _gathered(self, value: ir.Value) -> ir.Value:
        rows, *rest = self._shapes.of_image(value)
        name = f"{value.name}.of_answers"
        if rows == 1:
            return self._after(value, [new_node("Gather", [value, self._index], name, axis=0)])
        by_image = reshape(self._graph, value, (-1, rows, *rest), f"{value.name}.by_image")
        taken = new_node("Gather", [by_image.outputs[0], self._index], f"{value.name}.taken", axis=0)
        return self._after(value, [by_image, taken, reshape(self._graph, taken.outputs[0], (-1, *rest), name)])

    def _sized(self, value: ir.Value) -> ir.Value:
        """A copy of what computes a value from shapes, with the answers' shapes."""
        original = value.producer()
        if original is None:
            raise AssertionError(f"{value.name} is an input of the graph, so it is not computed from shapes")
        if self._gives_batch(original):
            inputs: list[ir.Value | None] = [self._index]
        else:
            inputs = [None if given is None else self.crossed(given) for given in original.inputs]
        outputs = [ir.Value(name=f"{each.name}.of_answers") for each in original.outputs]
        name = f"{original.name or value.name}.of_answers"
        copy = ir.node(original.op_type, inputs, dict(original.attributes), name=name, outputs=outputs)
        self._graph.insert_after(original, copy)
        self._rest.add(copy)
        return outputs[original.outputs.index(value)]

    def _gives_batch(self, original: ir.Node) -> bool:
        """Whether a node says how many images there are, which needs no gathering of what it looks at."""
        if original.op_type != "Shape" or original.inputs[0] is None:
            return False
        start, end = (original.attributes.get_int(name, default) for name, default in (("start", 0), ("end", None)))
        return (start, end) == (0, 1) and self._shapes.of_image(original.inputs[0])[0] == 1

    def _after(self, value: ir.Value, nodes: list[ir.Node]) -> ir.Value:
        """Places nodes as early as they can stand; the last one gives the result."""
        producer = value.producer()
        if producer is None:
            self._graph.insert_before(self._graph[0], nodes)
        else:
            self._graph.insert_after(producer, nodes)
        self._rest.update(nodes)
        return nodes[-1].outputs[0]
