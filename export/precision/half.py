"""Half precision in the graph itself, as strongly typed networks want it.

Weights stay where they lie: an fp32 initializer gets one `Cast` behind it, and whoever builds an engine computes that
once. Scales and the kernels of convolutions are converted here instead, because not every parser follows them through a
cast. What would lose too much, or overflow, stays in fp32 between two casts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from mimi_edge.choices import Precision
from mimi_edge.errors import ArtifactError, ConfigError
from mimi_edge.export.graphs import INPUT
from mimi_edge.export.passes.surgery import constant_nodes

FP32 = ir.DataType.FLOAT
HALVES = {Precision.FP16: ir.DataType.FLOAT16, Precision.BF16: ir.DataType.BFLOAT16}
SUFFIXES = {FP32: ".fp32", ir.DataType.FLOAT16: ".fp16", ir.DataType.BFLOAT16: ".bf16"}
"""What the name of a cast adds to the name of its input."""
FP32_OPERATORS: Mapping[str, str] = {
    "Softmax": "softmax",
    "LogSoftmax": "softmax",
    "LayerNormalization": "normalisation",
    **dict.fromkeys(("ReduceMean", "ReduceSum", "ReduceSumSquare", "ReduceL1", "ReduceL2"), "reduction"),
    **dict.fromkeys(("ReduceLogSumExp", "GlobalAveragePool"), "reduction"),
}
"""Operators that sum many elements without a matrix product, and what to call that."""
QUANTISERS = frozenset({"QuantizeLinear", "DequantizeLinear"})
SCALE_INPUT = 1
CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
TYPE_BLIND = frozenset({"Shape", "Size"})
"""Operators that take a float and do not look at its value."""


@dataclass(frozen=True)
class KeptLayer:
    """One layer that stays in fp32.

    Attributes:
        name: of the node, or of its first output where the node has none.
        op_type: ONNX's operator.
        reason: why: "softmax", or "overflow: 81234 > 65504 / 4".
    """

    name: str
    op_type: str
    reason: str


def to_half(
    model: ir.Model,
    precision: Precision,
    keep: Collection[str] = (),
    *,
    fp32_operators: Mapping[str, str] = FP32_OPERATORS,
) -> tuple[KeptLayer, ...]:
    """Turns a float32 graph into one that computes in half precision, in place.

    The input `images` and all outputs stay float32 and keep their names; other float inputs become half inputs, unless
    they have a default value. What depends on weights alone is still computed in fp32 and then cast.

    Args:
        model: whose operators compute in float32; initializers may have any type.
        precision: fp16 or bf16; fp32 changes nothing.
        keep: values that half precision cannot hold: what makes or uses one stays in fp32. A name that is no value's
            is taken for a node's. A mapping gives the reason for each, as `overflowing` does.
        fp32_operators: operators that stay in fp32 wherever they occur, with the reason.

    Returns:
        The layers that stay in fp32, in the graph's order.

    Raises:
        ConfigError: INT8 was asked for, or a name is neither a value nor a node of the graph.
        ArtifactError: the types in the graph cannot be inferred.
    """
    if precision is Precision.FP32:
        return ()
    if precision not in HALVES:
        raise ConfigError(f"Half precision is fp16 or bf16; got {precision.value}. INT8 comes from quantised_model().")
    infer_types(model)
    half = HALVES[precision]
    constant = constant_nodes(model.graph)
    nodes = [node for node in model.graph if node not in constant]
    kept = _kept(model, nodes, half, keep, fp32_operators)
    _Conversion(model.graph, half, nodes, frozenset(kept)).run()
    infer_types(model)
    return tuple(KeptLayer(node_name(node), node.op_type, reason) for node, reason in kept.items())


def infer_types(model: ir.Model) -> None:
    """Gives every value of the graph its type, and its shape where that is known, afresh.

    Raises:
        ArtifactError: the graph contradicts itself, or has operators that ONNX does not know.
    """
    import onnx
    from onnx_ir.passes.common import ShapeInferencePass

    for node in model.graph:
        for value in node.outputs:
            if value not in model.graph.outputs:
                value.type = value.shape = None
    ShapeInferencePass()(model)
    untyped = [value.name for node in model.graph for value in node.outputs if value.type is None and value.name]
    if untyped:
        raise ArtifactError(
            f"ONNX {onnx.__version__} cannot say what type {len(untyped)} values of the graph have, first "
            f"{untyped[0]}. Export it again."
        )


def node_name(node: ir.Node) -> str:
    """Of the node, or of its first output."""
    return node.name or node.outputs[0].name or node.op_type


def _kept(
    model: ir.Model,
    nodes: list[ir.Node],
    half: ir.DataType,
    keep: Collection[str],
    fp32_operators: Mapping[str, str],
) -> dict[ir.Node, str]:
    """The nodes that stay in fp32, in the graph's order, with the reason."""
    named = _named(model.graph, keep)
    opset = model.opset_imports.get("", 0)
    reasons = {
        node: named.get(node)
        or fp32_operators.get(node.op_type)
        or _computed_divisor(node)
        or _lost_constant(node, half)
        or _unknown_type(node, opset, half)
        for node in nodes
        if _touches_floats(node)
    }
    return {node: reason for node, reason in reasons.items() if reason}


def _named(graph: ir.Graph, keep: Collection[str]) -> dict[ir.Node, str]:
    """Nodes that the names in `keep` mean."""
    values = {value.name: value for value in (*graph.inputs, *graph.initializers.values())}
    values |= {value.name: value for node in graph for value in node.outputs}
    nodes = {node.name: node for node in graph}
    strangers = [name for name in keep if name not in values and name not in nodes]
    if strangers:
        raise ConfigError(f"Cannot keep {', '.join(strangers)} in fp32: the graph has no such value and no such node.")
    found: dict[ir.Node, str] = {}
    for name in keep:
        reason = keep[name] if isinstance(keep, Mapping) else "asked for"
        for node in _around(values[name]) if name in values else [nodes[name]]:
            found.setdefault(node, reason)
    return found


def _around(value: ir.Value) -> Iterator[ir.Node]:
    """Who makes a value, and who uses it."""
    producer = value.producer()
    if producer is not None:
        yield producer
    yield from (use.node for use in value.uses() if use.node.op_type not in TYPE_BLIND)


def _touches_floats(node: ir.Node) -> bool:
    return any(value is not None and value.dtype is FP32 for value in (*node.inputs, *node.outputs))


def _computed_divisor(node: ir.Node) -> str | None:
    """Swin V2 divides by norms, which may be as small as what fp16 takes for 0."""
    if node.op_type != "Div" or node.inputs[1] is None or node.inputs[1].producer() is None:
        return None
    return "division"


def _lost_constant(node: ir.Node, half: ir.DataType) -> str | None:
    """Single numbers that half precision takes for 0 or for infinity, such as the 1e-12 that keeps a norm from 0."""
    for value in node.inputs:
        tensor = None if value is None else value.const_value
        if tensor is None or tensor.dtype is not FP32 or tensor.size != 1:
            continue
        number = tensor.numpy().reshape(())
        with np.errstate(over="ignore", under="ignore"):
            rounded = number.astype(half.numpy()).astype(np.float32)
        if bool(number) != bool(rounded) or np.isfinite(number) != np.isfinite(rounded):
            return f"constant: {number:g} would become {rounded:g}"
    return None


def _unknown_type(node: ir.Node, opset: int, half: ir.DataType) -> str | None:
    """Some operators of an opset do not take every half type, such as `Conv` before opset 22."""
    import onnx.defs

    if node.domain not in {"", "ai.onnx"} or not onnx.defs.has(node.op_type, opset, ""):
        return None
    schema = onnx.defs.get_schema(node.op_type, opset, "")
    types = {*_float_types(schema.inputs, node.inputs), *_float_types(schema.outputs, node.outputs)}
    if all(f"tensor({half.name.lower()})" in each for each in types):
        return None
    return f"opset {opset} knows no {half.name.lower()} here"


def _float_types(parameters: Sequence[Any], values: Sequence[ir.Value | None]) -> Iterator[frozenset[str]]:
    """What each of a node's float values may be; the last parameter stands for all that follow."""
    for index, value in enumerate(values):
        if value is not None and value.dtype is FP32:
            yield frozenset(parameters[min(index, len(parameters) - 1)].types)


@dataclass
class _Conversion:
    """One change of a graph from float32 to half precision.

    Attributes:
        graph: to change.
        half: the type to compute in.
        nodes: that do not depend on weights alone, in the graph's order.
        kept: those of them that stay in fp32.
    """

    graph: ir.Graph
    half: ir.DataType
    nodes: list[ir.Node]
    kept: frozenset[ir.Node]
    _floats: frozenset[ir.Value] = field(init=False)
    _halves: set[ir.Value] = field(init=False)
    _casts: dict[tuple[ir.Value, ir.DataType], ir.Value] = field(init=False, default_factory=dict)
    _first: ir.Node | None = field(init=False)

    def __post_init__(self) -> None:
        values = (value for node in self.graph for value in (*node.inputs, *node.outputs) if value is not None)
        self._floats = frozenset(value for value in values if value.dtype is FP32)
        self._halves = set()
        self._first = next(iter(self.graph), None)

    def run(self) -> None:
        """Inserts the casts and sets the types."""
        self._become_half(self._half_inputs())
        for node in self.nodes:
            self._convert(node)
        for index, output in enumerate(self.graph.outputs):
            if output in self._halves:
                self.graph.outputs[index] = self._back_to_fp32(output)
        self._drop_idle_conversions()

    def _become_half(self, values: Iterable[ir.Value]) -> None:
        for value in values:
            value.type = ir.TensorType(self.half)
            self._halves.add(value)

    def _half_inputs(self) -> Iterator[ir.Value]:
        for value in self.graph.inputs:
            if value in self._floats and value.name != INPUT and value.name not in self.graph.initializers:
                yield value

    def _convert(self, node: ir.Node) -> None:
        wanted = FP32 if node in self.kept else self.half
        if node.op_type not in TYPE_BLIND and node.op_type != "Cast":
            self._convert_inputs(node, wanted)
        floats = [value for value in node.outputs if value in self._floats]
        if wanted is FP32 or not floats:
            return
        if node.op_type == "Cast":
            node.attributes["to"] = ir.AttrInt64("to", int(self.half))
            self._become_half(floats)
        # What makes floats of something else, such as ConstantOfShape, goes on giving float32.
        elif any(value is not None and value.dtype is self.half for value in node.inputs):
            self._become_half(floats)

    def _convert_inputs(self, node: ir.Node, wanted: ir.DataType) -> None:
        for index, value in enumerate(node.inputs):
            if value is not None and value in self._floats:
                give = self._constant if _must_be_constant(node, index) else self._as
                node.replace_input_with(index, give(value, wanted))

    def _as(self, value: ir.Value, wanted: ir.DataType) -> ir.Value:
        """The same number in the wanted type: the value itself, or what one cast behind it gives."""
        if (value in self._halves) == (wanted is self.half):
            return value
        stored = _stored_as(value, wanted)
        if stored is not None:
            return stored
        if (value, wanted) not in self._casts:
            self._casts[value, wanted] = self._cast(value, wanted, f"{value.name}{SUFFIXES[wanted]}")
        return self._casts[value, wanted]

    def _constant(self, value: ir.Value, wanted: ir.DataType) -> ir.Value:
        """A constant in the wanted type, as an initializer of its own."""
        tensor = value.const_value
        if tensor is None or tensor.dtype is wanted:
            return self._as(value, wanted)
        if (value, wanted) not in self._casts:
            name = f"{value.name}{SUFFIXES[wanted]}"
            converted = ir.Tensor(tensor.numpy().astype(wanted.numpy()), dtype=wanted, name=name)
            constant = ir.Value(name=name, shape=converted.shape, type=ir.TensorType(wanted), const_value=converted)
            self.graph.register_initializer(constant)
            self._casts[value, wanted] = constant
        return self._casts[value, wanted]

    def _cast(self, value: ir.Value, wanted: ir.DataType, name: str) -> ir.Value:
        output = ir.Value(name=name, type=ir.TensorType(wanted), shape=value.shape)
        node = ir.node("Cast", [value], {"to": wanted}, name=name, outputs=[output])
        producer = value.producer()
        if producer is not None:
            self.graph.insert_after(producer, node)
        elif self._first is not None:
            self.graph.insert_before(self._first, node)
        return output

    def _back_to_fp32(self, output: ir.Value) -> ir.Value:
        name = output.name or ""
        output.name = f"{name}{SUFFIXES[self.half]}"
        return self._cast(output, FP32, name)

    def _drop_idle_conversions(self) -> None:
        """Drops casts to fp32 of weights that are used as they are stored, and constants that nothing uses any more."""
        for node in [node for node in self.graph if node.op_type == "Cast"]:
            output = node.outputs[0]
            if not output.uses() and output not in self.graph.outputs:
                self.graph.remove(node, safe=True)
        for source in {value for value, _ in self._casts}:
            if source.name and source.name in self.graph.initializers and not source.uses():
                del self.graph.initializers[source.name]


def _must_be_constant(node: ir.Node, index: int) -> bool:
    """Whether some parser looks for this input among the constants, and does not look through a cast."""
    return (node.op_type in QUANTISERS and index == SCALE_INPUT) or (node.op_type in CONVOLUTIONS and index > 0)


def _stored_as(value: ir.Value, wanted: ir.DataType) -> ir.Value | None:
    """The initializer behind a cast, where it has the wanted type already: a task file in fp16."""
    producer = value.producer()
    if producer is None or producer.op_type != "Cast":
        return None
    source = producer.inputs[0]
    tensor = None if source is None else source.const_value
    return source if tensor is not None and tensor.dtype is wanted else None
