"""One graph for many tasks: adapters and head are inputs, so a switch of tasks is a switch of addresses.

Plain, all images of a batch are answered by one task. Mixed, each answer names its own task and its own frame:

    images [F, 3, H, W]   frame_of_answer [A]   task_of_answer [A]   <site>.down [T, M, N] ...   ->   logits [A, C]

The adapters of an answer's task are gathered and applied as batched products. What lies before the first adapter runs
once for each frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any

import onnx_ir as ir

from mimi_edge.errors import ArtifactError
from mimi_edge.export.edits.branches import ACTIVATIONS, INTO, OUT_OF
from mimi_edge.export.graph_files import raise_opset
from mimi_edge.export.graphs import LOGITS, GraphInfo, graph_info, load_graph
from mimi_edge.export.passes.append_head import HEAD, AppendHead
from mimi_edge.export.passes.insert_adapters import InsertAdapters
from mimi_edge.export.passes.surgery import new_node
from mimi_edge.export.shared.inputs import FRAME_OF_ANSWER, TASK_OF_ANSWER, tensor_shapes
from mimi_edge.export.shared.layout import SharedLayout, layout_document
from mimi_edge.export.shared.nodes import add_input, reshape
from mimi_edge.export.shared.prefix import Prefix, PrefixCut, after_adapters, prefix_of
from mimi_edge.export.shared.shapes import Shapes, shapes_of
from mimi_edge.tasks.task import DOWN, HEAD_BIAS, HEAD_WEIGHT, UP
from mimi_edge.texts import canonical_json, fault_list

METADATA_KEY = "mimi_edge_shared"
FRAMES, ANSWERS, TASKS = "frames", "answers", "tasks"
"""Names of the dimensions F, A and T."""


@dataclass(frozen=True)
class SharedModel:
    """A graph for many tasks, in memory.

    Attributes:
        model: of which the backbone's weights lie where they lay.
        layout: what it has room for.
        mixed: whether each answer of a batch names its own task.
        prefix: what lies before the first adapter of any task.
    """

    model: ir.Model
    layout: SharedLayout
    mixed: bool
    prefix: Prefix

    @property
    def saved_blocks(self) -> int:
        """Blocks that run once for each frame and not once for each answer: none where there is one task a batch."""
        return self.prefix.blocks if self.mixed else 0

    def document(self) -> dict[str, Any]:
        """What an engine's sidecar says about the graph, in JSON's types."""
        return {
            "layout": layout_document(self.layout),
            "mixed": self.mixed,
            "prefix": asdict(self.prefix),
            "saved_blocks": self.saved_blocks,
        }


def shared_model(backbone_graph: Path, layout: SharedLayout, *, mixed: bool = False) -> SharedModel:
    """Makes one graph for all tasks that fit a layout; give it each task's `task_tensors`, or their `bank_of`.

    Inputs beside `images`, all float32 but the indices (int32), with N and C as in the layout:

    - plain: `<site>.down` [M, N], `<site>.up` [N, M], `head.weight` [C, F], `head.bias` [C]; output `logits` [B, C];
    - mixed: the same with T resident tasks in front, `frame_of_answer` [A] and `task_of_answer` [A];
      output `logits` [A, C].

    Args:
        backbone_graph: `backbone.onnx`; its weights are not read.
        layout: what to have room for; sites that are not in it have no input and cost nothing.
        mixed: let each answer name its own task and frame.

    Raises:
        ArtifactError: the layout is of another backbone, or the graph is damaged or has a task in it.
    """
    model = load_graph(backbone_graph)
    info = graph_info(model, backbone_graph)
    _check_fit(layout, info, backbone_graph)
    raise_opset(model)
    shapes = shapes_of(model)
    used = _site_values(model.graph, layout)
    rest = after_adapters(model.graph, used)
    prefix = prefix_of(model.graph, rest, info.sites, tuple(used), shapes)
    if mixed:
        _Mixed(model, layout, shapes).build(used, rest)
    else:
        _build_plain(model, layout)
    made = SharedModel(model, layout, mixed, prefix)
    model.graph.name = "shared"
    model.metadata_props[METADATA_KEY] = canonical_json(made.document())
    return made


def _check_fit(layout: SharedLayout, info: GraphInfo, path: Path) -> None:
    if faults := list(_misfits(layout, info)):
        raise ArtifactError(
            f"{path} cannot serve these tasks:\n{fault_list(faults)}\n"
            "Export the backbone that the tasks were trained on."
        )


def _misfits(layout: SharedLayout, info: GraphInfo) -> Iterator[str]:
    if info.task is not None:
        yield f"it already has task {info.task.name} in it; expected the bare backbone"
    if info.backbone != layout.backbone:
        yield f"it is {info.backbone}; the tasks were trained on {layout.backbone}"
    if info.input_size != layout.input_size:
        yield f"it takes images of {info.input_size} px, the tasks of {layout.input_size} px"
    widths = {site.name: site.width for site in info.sites}
    for site, width in layout.widths.items():
        if widths.get(site) != width:
            yield f"site {site}: the tasks have width {width}, the graph {widths.get(site, 'no such site')}"


def _site_values(graph: ir.Graph, layout: SharedLayout) -> dict[str, ir.Value]:
    """The values of the sites that have an input, in the order in which they are computed."""
    return {
        value.name: value for each in graph for value in each.outputs if value.name and value.name in layout.neurons
    }


def _build_plain(model: ir.Model, layout: SharedLayout) -> None:
    inputs = _task_inputs(model.graph, layout, ())
    adapters = {site: (inputs[site + DOWN], inputs[site + UP]) for site in layout.sites}
    InsertAdapters(adapters, layout.activation)(model)
    AppendHead(inputs[HEAD_WEIGHT], inputs[HEAD_BIAS], layout.classes)(model)


def _task_inputs(graph: ir.Graph, layout: SharedLayout, front: tuple[str, ...]) -> dict[str, ir.Value]:
    return {
        name: add_input(graph, name, ir.DataType.FLOAT, (*front, *shape))
        for name, shape in tensor_shapes(layout).items()
    }


class _Mixed:
    """Builds the graph in which each answer names its own task."""

    def __init__(self, model: ir.Model, layout: SharedLayout, shapes: Shapes) -> None:
        self._model = model
        self._graph = model.graph
        self._layout = layout
        self._shapes = shapes

    def build(self, used: Mapping[str, ir.Value], rest: set[ir.Node]) -> None:
        images = self._graph.inputs[0]
        images.shape = ir.Shape([FRAMES, *(images.shape or ())[1:]])
        frame_of_answer = add_input(self._graph, FRAME_OF_ANSWER, ir.DataType.INT32, (ANSWERS,))
        task_of_answer = add_input(self._graph, TASK_OF_ANSWER, ir.DataType.INT32, (ANSWERS,))
        inputs = _task_inputs(self._graph, self._layout, (TASKS,))
        cut = PrefixCut(self._model, rest, frame_of_answer, self._shapes)
        cut.cut()
        own = self._of_answers(inputs, task_of_answer)
        for site, value in used.items():
            self._insert(site, cut.crossed(value), self._shapes.of_image(value), own)
        self._append_head(own)

    def _of_answers(self, banks: Mapping[str, ir.Value], task_of_answer: ir.Value) -> dict[str, ir.Value]:
        """Every answer's own weights, [A, ...], gathered before anything that needs them."""
        taken = [new_node("Gather", [bank, task_of_answer], f"{name}.own", axis=0) for name, bank in banks.items()]
        self._graph.insert_before(self._graph[0], taken)
        return {name: gather.outputs[0] for name, gather in zip(banks, taken, strict=True)}

    def _insert(self, site: str, value: ir.Value, shape: tuple[int, ...], own: Mapping[str, ir.Value]) -> None:
        """Adds an adapter: rows of an answer are multiplied by that answer's weights.

        Args:
            site: its name.
            value: h of all answers.
            shape: of h for one image, [.., M]; an image may have several windows in front.
            own: weights of each answer.
        """
        uses = tuple(value.uses())
        rows = [] if shape[0] == 1 and len(shape) == 3 else [prod(shape[:-1])]
        nodes = [reshape(self._graph, value, (-1, *rows, shape[-1]), f"{site}.rows")] if rows else []
        before = nodes[-1].outputs[0] if rows else value
        nodes.append(new_node("MatMul", [before, own[site + DOWN]], f"{site}.{INTO}"))
        nodes.append(new_node(ACTIVATIONS[self._layout.activation], nodes[-1].outputs, f"{site}.hidden"))
        nodes.append(new_node("MatMul", [nodes[-1].outputs[0], own[site + UP]], f"{site}.{OUT_OF}"))
        if rows:
            nodes.append(reshape(self._graph, nodes[-1].outputs[0], (-1, *shape[1:]), f"{site}.as_it_was"))
        nodes.append(new_node("Add", [value, nodes[-1].outputs[0]], f"{site}.adapted"))
        producer = value.producer()
        if producer is None:
            raise AssertionError(f"site value {value.name} is not computed by any node")
        self._graph.insert_after(producer, nodes)
        for user, position in uses:
            user.replace_input_with(position, nodes[-1].outputs[0])

    def _append_head(self, own: Mapping[str, ir.Value]) -> None:
        """Ends the graph in each answer's own classifier: weight [A, C, F] x features [A, F, 1] + bias [A, C]."""
        classes, features = self._layout.classes, self._layout.backbone.features
        column = reshape(self._graph, self._graph.outputs[0], (-1, features, 1), "head.column")
        product = new_node("MatMul", [own[HEAD_WEIGHT], column.outputs[0]], "head.product")
        row = reshape(self._graph, product.outputs[0], (-1, classes), "head.row")
        logits = ir.Value(name=LOGITS, shape=ir.Shape([ANSWERS, classes]), type=ir.TensorType(ir.DataType.FLOAT))
        head = ir.node("Add", [row.outputs[0], own[HEAD_BIAS]], name=HEAD, outputs=[logits])
        self._graph.extend([column, product, row, head])
        self._graph.outputs[0] = logits
