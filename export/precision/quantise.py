"""INT8 by quantise-dequantise pairs, calibrated on the task's training images, and whether it is worth having.

Quantised are the products with the backbone's weights: those of `MatMul` and `Gemm`, and the patch embedding's `Conv`.
Weights have a scale for each output channel, activations one each; both are symmetric, and biases stay as they are. The
weights stay float, in their file, behind the pair: TensorRT quantises them when it builds. Where a task replaced a
weight (LoRA, full fine-tuning), the layer is still the backbone's, and what the weight became is evaluated before. A
task's own layers, of adapters and head, are left alone: they are a few hundredths of the work, and they are what the
task learned. Where a pass has put an adapter's first product into the backbone's, as further columns of it, those
columns are quantised with the rest.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mimi_edge.choices import Precision
from mimi_edge.errors import ConfigError, MimiEdgeError
from mimi_edge.events import Listener, silent
from mimi_edge.export.edits.own_layers import is_the_tasks_own
from mimi_edge.export.graphs import INPUT, load_graph
from mimi_edge.export.passes.fold_computed_weights import fold_computed_weights
from mimi_edge.export.precision.ranges import Feeds, batches
from mimi_edge.export.staging import temporary_folder
from mimi_edge.parts import CPU, install_line
from mimi_edge.tasks.stores import Floats

if TYPE_CHECKING:
    import onnx_ir as ir

    from mimi_edge.export.precision.half import KeptLayer

STAGE = "calibrate INT8"
BATCH = 8
PRODUCTS = frozenset({"Conv", "MatMul", "Gemm"})
WEIGHT_INPUT = 1
SMALLEST_SCALE = 2.0**-15
"""Of a channel or an activation: below it, 1 / scale is more than fp16 holds. It costs channels whose largest weight is
under 0.004 a little accuracy."""
MARKED_AS_PREPARED = {"onnx.quant.pre_process": "onnxruntime.quant"}
"""Keeps ONNX Runtime's quantiser from advising a preparation that ours makes needless."""
OPTIONS: Mapping[str, Any] = {
    "ActivationSymmetric": True,
    "WeightSymmetric": True,
    "AddQDQPairToWeight": True,
    # The library's own remark: TensorRT wants a pair for each product, where several have the same input.
    "DedicatedQDQPair": True,
    "QuantizeBias": False,
    "MatMulConstBOnly": True,
    "OpTypesToExcludeOutputQuantization": sorted(PRODUCTS),
}


@dataclass(frozen=True)
class QuantisedLayers:
    """What became of a graph's layers.

    Attributes:
        quantised: names of the products that compute in INT8.
        left: names of the products with a weight that do not: the task's own, of adapters and head.
        kept: layers that stay in fp32.
        rest: what everything that is not quantised computes in.
        images: how many the ranges of activations come from.
    """

    quantised: tuple[str, ...]
    left: tuple[str, ...]
    kept: tuple[KeptLayer, ...]
    rest: Precision
    images: int


class SpeedRatio(Protocol):
    """Median time of INT8 over that of what it competes with, and an interval; `mimi_edge.profiles` measures one."""

    @property
    def value(self) -> float:
        """The ratio; below 1, INT8 is faster."""
        ...

    @property
    def low(self) -> float:
        """Lower end of the interval."""
        ...

    @property
    def high(self) -> float:
        """Upper end of the interval."""
        ...


@dataclass(frozen=True)
class Verdict:
    """Whether INT8 is offered.

    Attributes:
        offered: nothing that was measured speaks against it.
        reasons: one sentence for the accuracy, one for the speed.
    """

    offered: bool
    reasons: tuple[str, ...]


def quantised_model(
    graph: Path,
    images: Floats,
    *,
    rest: Precision = Precision.FP16,
    keep: Collection[str] = (),
    feeds: Feeds | None = None,
    listener: Listener = silent,
) -> tuple[ir.Model, QuantisedLayers]:
    """Makes the INT8 form of an fp32 graph in memory, with the weights that the graph takes from its files.

    Args:
        graph: of which to make one; it stays as it is.
        images: normalised training images, float32 [n, 3, H, W]; a few hundred will do.
        rest: what everything else computes in: fp32, fp16 or bf16.
        keep: values that `rest` cannot hold, as for `to_half`.
        feeds: the graph's other inputs, as of `Look`.
        listener: hears how far it is.

    Raises:
        ConfigError: there are no images, or nothing to quantise.
        ArtifactError: the graph is damaged.
        MimiEdgeError: ONNX Runtime is not installed.
    """
    from mimi_edge.export.precision.half import to_half

    if not len(images):
        raise ConfigError("INT8 is calibrated on the task's training images, and there are none. Give some.")
    if rest is Precision.INT8:
        raise ConfigError("What is not quantised computes in fp32, fp16 or bf16; got int8.")
    if find_spec("onnxruntime") is None:
        raise MimiEdgeError(f"INT8 is calibrated in ONNX Runtime. Install it: {install_line(CPU)}")
    source = load_graph(graph)
    fold_computed_weights(source)
    chosen, left = _products(source)
    if not chosen:
        raise ConfigError(f"{graph} has no product with a weight of the backbone, so there is nothing to quantise.")
    model = _with_pairs(source, chosen, _Reader(batches(source, images, feeds or {}, BATCH, STAGE, listener)))
    _release_others(model, frozenset(chosen))
    _put_back(model, source)
    _raise_scales(model)
    kept = to_half(model, rest, keep)
    return model, QuantisedLayers(tuple(chosen), tuple(left), kept, rest, len(images))


def accuracy_drop(reference: Floats, logits: Floats, labels: NDArray[Any]) -> float:
    """How much lower top-1 accuracy is, as a share of the images; negative where it is higher.

    Args:
        reference: logits [n, C] of the fp32 graph, over the validation split (the test split chooses nothing).
        logits: [n, C] of the INT8 graph over the same images.
        labels: [n], indices of classes.

    Raises:
        ConfigError: there are no images, or the arrays do not belong together.
    """
    if reference.shape != logits.shape or len(logits) != len(labels) or not len(labels):
        raise ConfigError(
            f"Accuracies need logits [n, C] twice and n labels; got {list(reference.shape)}, {list(logits.shape)} and "
            f"{len(labels)} labels."
        )
    right = [int((each.argmax(axis=1) == labels).sum()) for each in (reference, logits)]
    return (right[0] - right[1]) / len(labels)


def int8_verdict(speed_ratio: SpeedRatio | None, drop: float, max_drop: float) -> Verdict:
    """Decides whether INT8 is offered: at least as fast, and hardly less accurate.

    Args:
        speed_ratio: its time over that of the precision it would replace; None where there was no GPU to measure on,
            and then accuracy alone decides.
        drop: of the accuracy on the validation split, 0..1.
        max_drop: that is allowed.
    """
    accurate = drop <= max_drop
    accuracy = f"accuracy drops by {drop:.4f}, {'within' if accurate else 'more than'} the {max_drop:.4f} allowed"
    fast, speed = _speed_verdict(speed_ratio)
    return Verdict(accurate and fast, (accuracy, speed))


def _speed_verdict(ratio: SpeedRatio | None) -> tuple[bool, str]:
    if ratio is None:
        return True, "speed not measured: no GPU"
    figures = f"{ratio.value:.3f} of the time ({ratio.low:.3f} to {ratio.high:.3f})"
    if ratio.value <= 1:
        return True, f"at least as fast: {figures}"
    if ratio.low <= 1:
        return True, f"no difference in speed seen: {figures}"
    return False, f"slower: {figures}"


def _products(model: ir.Model) -> tuple[list[str], list[str]]:
    """Names of the products with a weight: those to quantise, and the task's own.

    What is multiplied with weights given from outside belongs to a task as well.
    """
    chosen: list[str] = []
    left: list[str] = []
    for index, node in enumerate(model.graph):
        weight = node.inputs[WEIGHT_INPUT] if node.op_type in PRODUCTS and len(node.inputs) > WEIGHT_INPUT else None
        if weight is None or weight.producer() is not None or weight.name == INPUT:
            continue
        node.name = node.name or f"product.{index}"
        (left if weight.is_graph_input() or is_the_tasks_own(node) else chosen).append(node.name)
    return chosen, left


@dataclass(frozen=True)
class _Reader:
    """What ONNX Runtime's calibration asks for its next inputs."""

    rows: Iterator[dict[str, NDArray[Any]]]

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """One batch, None at the end."""
        return next(self.rows, None)


def _with_pairs(source: ir.Model, chosen: list[str], reader: _Reader) -> ir.Model:
    """The graph with quantise-dequantise pairs; the library holds all weights in memory and works in a folder apart."""
    import onnx_ir

    library = import_module("onnxruntime.quantization")
    with temporary_folder() as folder:
        copied = onnx_ir.from_proto(onnx_ir.to_proto(source))
        copied.metadata_props.update(MARKED_AS_PREPARED)
        for initializer, value in source.graph.initializers.items():
            # What a message says of a file in another folder is not enough to find it.
            copied.graph.initializers[initializer].const_value = value.const_value
        onnx_ir.save(copied, folder / "fp32.onnx", external_data="fp32.weights")
        library.quantize_static(
            folder / "fp32.onnx",
            folder / "int8.onnx",
            reader,
            quant_format=library.QuantFormat.QDQ,
            per_channel=True,
            activation_type=library.QuantType.QInt8,
            weight_type=library.QuantType.QInt8,
            calibrate_method=library.CalibrationMethod.MinMax,
            op_types_to_quantize=sorted(PRODUCTS),
            nodes_to_quantize=chosen,
            use_external_data_format=True,
            extra_options=dict(OPTIONS),
        )
        model = onnx_ir.load(folder / "int8.onnx")
        _hold_in_memory(model)
    return model


def _hold_in_memory(model: ir.Model) -> None:
    """Copies tensors out of files that are about to go."""
    import onnx_ir

    for value in model.graph.initializers.values():
        tensor = value.const_value
        if isinstance(tensor, onnx_ir.ExternalTensor):
            value.const_value = onnx_ir.Tensor(np.array(tensor.numpy()), dtype=tensor.dtype, name=tensor.name)


def _release_others(model: ir.Model, chosen: frozenset[str]) -> None:
    """Gives what is not quantised the exact value: the library hands everybody the one that went through a pair.

    Swin V2's residual stream is the input of a product too.
    """
    for node in [node for node in model.graph if node.op_type == "DequantizeLinear"]:
        quantising = node.inputs[0].producer() if node.inputs[0] is not None else None
        if quantising is None:
            continue
        for user, index in tuple(node.outputs[0].uses()):
            if user.name not in chosen:
                user.replace_input_with(index, quantising.inputs[0])


def _put_back(model: ir.Model, source: ir.Model) -> None:
    """Gives weights and metadata back what they were: references into their files."""
    for name, value in source.graph.initializers.items():
        if name in model.graph.initializers:
            model.graph.initializers[name].const_value = value.const_value
    model.metadata_props.clear()
    model.metadata_props.update(source.metadata_props)


def _raise_scales(model: ir.Model) -> None:
    """Keeps scales, and one over them, within what fp16 holds."""
    import onnx_ir

    from mimi_edge.export.precision.half import QUANTISERS, SCALE_INPUT

    for node in model.graph:
        scale = node.inputs[SCALE_INPUT] if node.op_type in QUANTISERS else None
        if scale is not None and scale.const_value is not None:
            raised = np.maximum(scale.const_value.numpy(), np.float32(SMALLEST_SCALE))
            scale.const_value = onnx_ir.Tensor(raised, name=scale.name)
