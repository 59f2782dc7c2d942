"""What the oldest TensorRT that we build for, 10.3, can read of ONNX.

The operators are those of its parser's support table: the table of 10.15 without what the parser's change log adds
after 10.3. Operators that the two leave in doubt are left out, so that a graph is refused here and not on a Jetson.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import onnx_ir as ir

from mimi_edge.errors import ArtifactError
from mimi_edge.texts import fault_list

OLDEST_TENSORRT = "10.3"
OPSETS = range(9, 21)
DEFAULT_DOMAINS = frozenset({"", "ai.onnx"})

_NAMES = """
Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization Cast Ceil Celu
Clip Concat Constant ConstantOfShape Conv ConvTranspose Cos Cosh CumSum DeformConv DepthToSpace DequantizeLinear Div
Dropout Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor GRU Gather GatherElements GatherND Gelu Gemm
GlobalAveragePool GlobalLpPool GlobalMaxPool Greater GreaterOrEqual GridSample GroupNormalization HardSigmoid
HardSwish Hardmax Identity If InstanceNormalization IsInf IsNaN LRN LSTM LayerNormalization LeakyRelu Less
LessOrEqual Log LogSoftmax Loop LpNormalization LpPool MatMul Max MaxPool Mean MeanVarianceNormalization Min Mod Mul
Neg NonMaxSuppression NonZero Not OneHot Or PRelu Pad Pow QuantizeLinear RNN RandomNormal RandomNormalLike
RandomUniform RandomUniformLike Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean
ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize ReverseSequence RoiAlign Round Scan Scatter
ScatterElements ScatterND Selu Shape Shrink Sigmoid Sign Sin Sinh Size Slice Softmax Softplus Softsign SpaceToDepth
Split Sqrt Squeeze Sub Sum Tan Tanh ThresholdedRelu Tile TopK Transpose Trilu Unsqueeze Upsample Where Xor
"""
OPERATORS = frozenset(_NAMES.split())

CAST_TYPES = frozenset(
    {
        ir.DataType.FLOAT,
        ir.DataType.FLOAT16,
        ir.DataType.BFLOAT16,
        ir.DataType.INT32,
        ir.DataType.INT64,
        ir.DataType.UINT8,
        ir.DataType.BOOL,
    }
)

Rule = Callable[[ir.Node], str | None]
"""What is wrong with a node, None if nothing is."""


def check_operators(model: ir.Model) -> None:
    """Makes sure that TensorRT 10.3's parser knows everything in a graph.

    Raises:
        ArtifactError: it does not know an operator, a version of the operator set, or a use of an operator; the message
            names all of them.
    """
    faults = sorted({*_opset_faults(model), *_node_faults(model)})
    if faults:
        raise ArtifactError(
            f"TensorRT {OLDEST_TENSORRT} cannot read this graph:\n{fault_list(faults)}\n"
            "Graphs of mimi-edge have none of these: export the backbone again with this version."
        )


def _opset_faults(model: ir.Model) -> Iterator[str]:
    version = model.opset_imports.get("", model.opset_imports.get("ai.onnx"))
    if version is None or version not in OPSETS:
        yield f"operator set {version}; expected {OPSETS.start} to {OPSETS.stop - 1}"


def _node_faults(model: ir.Model) -> Iterator[str]:
    for node in _nodes(model):
        name = node.op_type if node.domain in DEFAULT_DOMAINS else f"{node.domain}.{node.op_type}"
        if node.op_identifier() in model.functions:
            continue
        if name not in OPERATORS:
            yield f"operator {name}"
        elif name in RULES and (fault := RULES[name](node)) is not None:
            yield f"operator {name} {fault}, at {node.name}"


def _nodes(model: ir.Model) -> Iterator[ir.Node]:
    """Every node, at any depth."""
    yield from ir.traversal.RecursiveGraphIterator(model.graph)
    for function in model.functions.values():
        yield from ir.traversal.RecursiveGraphIterator(function)


def _constant_input(index: int) -> Rule:
    def rule(node: ir.Node) -> str | None:
        value = node.inputs[index] if len(node.inputs) > index else None
        is_free = value is not None and (value.const_value is None or value.is_graph_input())
        return f"with an input {index} that is no constant" if is_free else None

    return rule


def _no_input(index: int) -> Rule:
    def rule(node: ir.Node) -> str | None:
        given = len(node.inputs) > index and node.inputs[index] is not None
        return f"with an input {index}" if given else None

    return rule


def _one_output(node: ir.Node) -> str | None:
    return "with more outputs than its first" if any(value.uses() for value in node.outputs[1:]) else None


def _attribute(name: str, allowed: Iterable[object]) -> Rule:
    known = frozenset(allowed)

    def rule(node: ir.Node) -> str | None:
        attribute = node.attributes.get(name)
        return None if attribute is None or attribute.value in known else f"with {name} = {attribute.value!r}"

    return rule


def _cast(node: ir.Node) -> str | None:
    # int8 constants mean quantised execution there, and may only stand before DequantizeLinear.
    value = node.inputs[0]
    if value is not None and value.const_value is not None and value.dtype == ir.DataType.INT8:
        return "of an int8 constant"
    return _attribute("to", CAST_TYPES)(node)


def _conv(node: ir.Node) -> str | None:
    # Where the weights are computed, 10.3 takes the kernel's size from the node alone.
    if "kernel_shape" not in node.attributes:
        return "without kernel_shape"
    weights = node.inputs[1] if len(node.inputs) > 1 else None
    maker = None if weights is None else weights.producer()
    is_quantised = maker is not None and maker.op_type == "DequantizeLinear"
    is_plain = weights is not None and weights.const_value is not None and maker is None
    return None if is_plain or is_quantised else "with weights that are no constant"


RULES: Mapping[str, Rule] = {
    "Cast": _cast,
    "Conv": _conv,
    "CumSum": _constant_input(1),
    "Gelu": _attribute("approximate", ("none", "tanh")),
    "LayerNormalization": _one_output,
    "MaxPool": _one_output,
    "Pad": _no_input(3),
    "ScatterND": _attribute("reduction", ("none",)),
    "Squeeze": _constant_input(1),
    "TopK": _attribute("sorted", (1,)),
    "Unsqueeze": _constant_input(1),
    **{name: _constant_input(1) for name in OPERATORS if name.startswith("Reduce")},
}
"""Where the parser knows an operator but not every use of it."""
