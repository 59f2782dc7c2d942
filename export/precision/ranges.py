"""How large the values in a graph become on real images, and which of them half precision cannot hold."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

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

T = TypeVar("T")

STAGE = "value ranges"
BATCH = 8
FP16_LARGEST = 65504.0
MARGIN = 4.0
"""By how much an image that was not looked at may exceed those that were: two powers of two, of fp16's thirty."""
MOVING = frozenset({"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity"})
"""Operators whose output holds the very numbers of their first input."""
NO_SUMS: Mapping[str, float] = MappingProxyType({})

Feeds = Mapping[str, NDArray[Any]]
"""Values of a graph's inputs other than the images. One whose first axis is the batch has a row for each image."""


@dataclass(frozen=True, eq=False)
class Look:
    """Images to look at, and what goes into the graph beside them.

    Attributes:
        images: normalised, float32 [n, 3, H, W].
        feeds: the graph's other inputs, as in the shared strategy.
    """

    images: Floats
    feeds: Feeds = field(default_factory=dict)


@dataclass(frozen=True)
class Ranges:
    """How large values became.

    Attributes:
        largest: absolute value, by the value's name; infinity is possible (a mask), not-a-number is not.
        partial_sums: by the name of a product of two computed values, as in attention: the most that a sum of any of
            its terms, in any order, can have been.
        images: that were looked at.
    """

    largest: Mapping[str, float]
    partial_sums: Mapping[str, float]
    images: int


def find_ranges(
    graph: Path,
    looks: Sequence[Look],
    *,
    threads: int | None = None,
    batch: int = BATCH,
    seconds: float | None = None,
    listener: Listener = silent,
) -> Ranges:
    """Finds the largest absolute value that each float value of an fp32 graph takes: weights, inputs, results.

    The graph itself reduces every value to one number, in ONNX Runtime, so activations are not kept. It is opened once;
    the looks take turns.

    Args:
        graph: bare or merged, or a changed graph beside its weights; its folder must be writable for a while.
        looks: at what.
        threads: of ONNX Runtime.
        batch: images at a time.
        seconds: after which no further batch is begun; there is always one. None is without end.
        listener: hears how far it is.

    Raises:
        ArtifactError: the graph is damaged or not ours, or gives something that is not a number.
        ConfigError: there are no images, an input is missing, or the folder cannot be written.
        MimiEdgeError: ONNX Runtime is not installed.
    """
    if not sum(len(look.images) for look in looks):
        raise ConfigError("Ranges of values need images, and there are none. Give some of the task's training images.")
    model = load_graph(graph)
    turns = [batches(model, look.images, look.feeds, batch, STAGE, silent) for look in looks if len(look.images)]
    moved, watched = _watched(model)
    products = _computed_products(model.graph)
    largest, partial = _constant_ranges(model), dict.fromkeys(products, 0.0)
    _append_reductions(model, watched, products)
    with engine_graph(model, graph.parent) as path:
        opened = open_graph(path, threads=threads)
    outputs = [*watched.values(), *products.values()]
    total, seen, started = sum(len(look.images) for look in looks), 0, time.monotonic()
    listener(Advance(STAGE, 0, total))
    for turn, fed in enumerate(_in_turns(turns)):
        if turn and seconds is not None and time.monotonic() - started > seconds:
            break
        found = dict(zip(outputs, opened.session.run(outputs, fed), strict=True))
        for names, kept in ((watched, largest), (products, partial)):
            # numpy's maximum, unlike Python's, hands on what is not a number.
            kept.update({name: float(np.maximum(kept.get(name, 0.0), found[one])) for name, one in names.items()})
        seen += len(fed[INPUT])
        listener(Advance(STAGE, seen, total))
    for name, source in moved.items():
        largest[name] = largest[source]
    _check_numbers(largest, graph)
    return Ranges(largest, partial, seen)


def _in_turns(turns: Sequence[Iterator[T]]) -> Iterator[T]:
    """One of each, then the next of each, as long as there are any."""
    end = object()
    for round_of in zip_longest(*turns, fillvalue=end):
        yield from (one for one in round_of if one is not end)  # type: ignore[misc]  # what is left is a T


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


def overflowing(
    ranges: Mapping[str, float],
    precision: Precision,
    margin: float = MARGIN,
    *,
    partial_sums: Mapping[str, float] = NO_SUMS,
) -> dict[str, str]:
    """The values that a number format cannot hold with a margin, each with the reason; made for `to_half`.

    Products with weights add up in fp32, and norms and means stay in fp32; attention's own products may add up in fp16
    where they are fused, so their partial sums count as values. bf16 reaches as far as fp32: nothing overflows there.

    Args:
        ranges: largest absolute value by name.
        precision: of the engine; INT8 is taken to compute the rest in fp16.
        margin: by how much other images may exceed these.
        partial_sums: of products, likewise.

    Raises:
        ConfigError: the margin is below 1.
    """
    if not margin >= 1:
        raise ConfigError(f"The margin for values not seen must be 1 or more; got {margin:g}.")
    if precision in {Precision.FP32, Precision.BF16}:
        return {}
    kinds = ((partial_sums, "overflow of partial sums"), (ranges, "overflow"))
    return {
        name: f"{kind}: {largest:.0f} > {FP16_LARGEST:.0f} / {margin:g}"
        for found, kind in kinds
        for name, largest in found.items()
        if largest > FP16_LARGEST / margin
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


def _computed_products(graph: ir.Graph) -> dict[str, str]:
    """Products of two values that both depend on the image, as only attention has them, with names for their sums."""
    seen = {value for value in graph.inputs if value.name == INPUT}
    found = []
    for node in graph:
        if not seen.isdisjoint(node.inputs):
            seen.update(node.outputs)
        if node.op_type == "MatMul" and seen.issuperset(node.inputs):
            found.append(node.outputs[0].name)
    return {name: f"sums.{index}" for index, name in enumerate(found) if name is not None}


def _append_reductions(model: ir.Model, watched: Mapping[str, str], products: Mapping[str, str]) -> None:
    """Gives the graph one scalar output for each watched value, and one for the sums of each product."""
    values = {value.name: value for value in _computed(model.graph) if value.name is not None}
    outputs = []
    # ONNX Runtime 1.31 runs the last dead end of a graph first. In this order it reduces each value as soon as it is
    # there; in the other one it would first compute, and keep, every value of the network.
    for name, value in reversed(values.items()):
        if name in watched:
            outputs.append(_reduced(model.graph, [value], watched[name]))
        producer = value.producer()
        if name in products and producer is not None:
            outputs.append(_reduced(model.graph, [one for one in producer.inputs if one is not None], products[name]))
    model.graph.outputs.extend(reversed(outputs))


def _reduced(graph: ir.Graph, factors: Sequence[ir.Value], output_name: str) -> ir.Value:
    """The largest of |x|, or of |x| @ |y|: a scalar that new nodes of a graph compute."""
    import onnx_ir

    def made(operator: str, inputs: Sequence[ir.Value], suffix: str) -> ir.Node:
        return onnx_ir.node(operator, inputs, outputs=[onnx_ir.Value(name=f"{output_name}.{suffix}")])

    nodes = [made("Abs", [factor], f"abs{number}") for number, factor in enumerate(factors)]
    sizes = [node.outputs[0] for node in nodes]
    if len(sizes) > 1:
        nodes.append(made("MatMul", sizes, "product"))
    output = onnx_ir.Value(name=output_name, shape=onnx_ir.Shape([]), type=onnx_ir.TensorType(onnx_ir.DataType.FLOAT))
    nodes.append(onnx_ir.node("ReduceMax", nodes[-1].outputs, {"keepdims": 0}, outputs=[output]))
    graph.extend(nodes)
    return output


def _check_numbers(ranges: Mapping[str, float], graph: Path) -> None:
    strange = [name for name, largest in ranges.items() if np.isnan(largest)]
    if strange:
        raise ArtifactError(
            f"{graph} gives something that is not a number at {strange[0]} (and {len(strange) - 1} more values), in "
            "fp32. Check the images and the task, and export it again."
        )
