"""How large the values in a graph become on real images, and which of them half precision cannot hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mimi_edge.choices import Precision
from mimi_edge.errors import ArtifactError, ConfigError
from mimi_edge.events import Advance, Listener, silent
from mimi_edge.export.engine_graphs import engine_graph
from mimi_edge.export.graphs import INPUT, load_graph
from mimi_edge.export.onnx_runtime import open_graph
from mimi_edge.tasks.stores import Floats

if TYPE_CHECKING:
    import onnx_ir as ir

STAGE = "value ranges"
BATCH = 8
FP16_LARGEST = 65504.0
MARGIN = 4.0
"""By how much an image that was not looked at may exceed those that were: two powers of two, of fp16's thirty."""
MOVING = frozenset({"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity"})
"""Operators whose output holds the very numbers of their first input."""

Feeds = Mapping[str, NDArray[Any]]
"""Values of a graph's inputs other than the images. One whose first axis is the batch has a row for each image."""


def value_ranges(
    graph: Path,
    images: Floats,
    *,
    feeds: Feeds | None = None,
    threads: int | None = None,
    batch: int = BATCH,
    listener: Listener = silent,
) -> dict[str, float]:
    """Finds the largest absolute value that each float value of an fp32 graph takes: weights, inputs, results.

    The graph itself reduces every value to one number, in ONNX Runtime, so activations are not kept.

    Args:
        graph: bare or merged, or a changed graph beside its weights; its folder must be writable for a while.
        images: normalised, float32 [n, 3, S, S].
        feeds: the graph's other inputs, as in the shared strategy.
        threads: of ONNX Runtime.
        batch: images at a time.
        listener: hears how far it is.

    Returns:
        By the value's name; infinity is possible (a mask), not-a-number is not.

    Raises:
        ArtifactError: the graph is damaged or not ours, or gives something that is not a number.
        ConfigError: there are no images, an input is missing, or the folder cannot be written.
        MimiEdgeError: ONNX Runtime is not installed.
    """
    if not len(images):
        raise ConfigError("Ranges of values need images, and there are none. Give some of the task's training images.")
    model = load_graph(graph)
    fed_batches = batches(model, images, feeds or {}, batch, STAGE, listener)
    moved, watched = _watched(model)
    ranges = _constant_ranges(model)
    _append_reductions(model, watched)
    with engine_graph(model, graph.parent) as path:
        opened = open_graph(path, threads=threads)
    for fed in fed_batches:
        for name, largest in zip(watched, opened.session.run(list(watched.values()), fed), strict=True):
            # numpy's maximum, unlike Python's, hands on what is not a number.
            ranges[name] = float(np.maximum(ranges.get(name, 0.0), largest))
    for name, source in moved.items():
        ranges[name] = ranges[source]
    _check_numbers(ranges, graph)
    return ranges


def batches(
    model: ir.Model, images: Floats, feeds: Feeds, batch: int, stage: str, listener: Listener
) -> Iterator[dict[str, NDArray[Any]]]:
    """What to feed a graph, some images at a time, telling how far it is.

    Raises:
        ConfigError: an input has no value; raised at once, not when the first batch is asked for.
    """
    inputs = {value.name: value.shape for value in model.graph.inputs if value.name not in model.graph.initializers}
    missing = sorted(str(name) for name in set(inputs) - {INPUT} - set(feeds))
    if missing:
        raise ConfigError(f"The graph has inputs beside the images; give values for {', '.join(missing)}.")
    image_shape = inputs[INPUT]
    by_image = {name for name, shape in inputs.items() if shape and image_shape and shape[0] == image_shape[0]}

    def rows() -> Iterator[dict[str, NDArray[Any]]]:
        for start in range(0, len(images), batch):
            listener(Advance(stage, start, len(images)))
            stop = start + batch
            fed = {name: array[start:stop] if name in by_image else array for name, array in feeds.items()}
            yield {INPUT: np.ascontiguousarray(images[start:stop], np.float32), **fed}
        listener(Advance(stage, len(images), len(images)))

    return rows()


def overflowing(ranges: Mapping[str, float], precision: Precision, margin: float = MARGIN) -> dict[str, str]:
    """The values that a number format cannot hold with a margin, each with the reason; made for `to_half`.

    Only values count, not sums inside a product: tensor cores add up in fp32, and softmax, norms and means stay in
    fp32 anyway. bf16 reaches as far as fp32, so nothing overflows there.

    Args:
        ranges: largest absolute value by name.
        precision: of the engine; INT8 is taken to compute the rest in fp16.
        margin: by how much other images may exceed these.

    Raises:
        ConfigError: the margin is below 1.
    """
    if not margin >= 1:
        raise ConfigError(f"The margin for values not seen must be 1 or more; got {margin:g}.")
    if precision in {Precision.FP32, Precision.BF16}:
        return {}
    limit = FP16_LARGEST / margin
    return {
        name: f"overflow: {largest:.0f} > {FP16_LARGEST:.0f} / {margin:g}"
        for name, largest in ranges.items()
        if largest > limit
    }


def _watched(model: ir.Model) -> tuple[dict[str, str], dict[str, str]]:
    """Values that only move others (each with its source), and values to reduce (each with the output's name)."""
    from mimi_edge.export.precision.half import FP32, infer_types

    infer_types(model)
    moved: dict[str, str] = {}
    watched: dict[str, str] = {}
    for value in _computed(model.graph):
        node, name = value.producer(), value.name
        if value.dtype is not FP32 or name is None:
            continue
        source = None if node is None or node.op_type not in MOVING else node.inputs[0]
        if source is not None and source.name is not None:
            moved[name] = source.name
        else:
            watched[name] = f"range.{len(watched)}"
    return moved, watched


def _computed(graph: ir.Graph) -> Iterator[ir.Value]:
    yield from graph.inputs
    for node in graph:
        yield from node.outputs


def _constant_ranges(model: ir.Model) -> dict[str, float]:
    from mimi_edge.export.precision.half import FP32

    return {
        name: float(np.abs(value.const_value.numpy()).max(initial=0.0))
        for name, value in model.graph.initializers.items()
        if value.const_value is not None and value.const_value.dtype is FP32
    }


def _append_reductions(model: ir.Model, watched: Mapping[str, str]) -> None:
    """Gives the graph one scalar output for each watched value."""
    import onnx_ir

    values = {value.name: value for value in _computed(model.graph)}
    outputs = []
    # ONNX Runtime 1.31 runs the last dead end of a graph first. In this order it reduces each value as soon as it is
    # there; in the other one it would first compute, and keep, every value of the network.
    for name, output_name in reversed(list(watched.items())):
        size = onnx_ir.node("Abs", [values[name]], outputs=[onnx_ir.Value(name=f"{output_name}.abs")])
        output = onnx_ir.Value(
            name=output_name, shape=onnx_ir.Shape([]), type=onnx_ir.TensorType(onnx_ir.DataType.FLOAT)
        )
        model.graph.extend([size, onnx_ir.node("ReduceMax", size.outputs, {"keepdims": 0}, outputs=[output])])
        outputs.append(output)
    model.graph.outputs.extend(reversed(outputs))


def _check_numbers(ranges: Mapping[str, float], graph: Path) -> None:
    strange = [name for name, largest in ranges.items() if np.isnan(largest)]
    if strange:
        raise ArtifactError(
            f"{graph} gives something that is not a number at {strange[0]} (and {len(strange) - 1} more values), in "
            "fp32. Check the images and the task, and export it again."
        )
