"""Tiny graphs with two sites, in the forms that engines have, and how to make engines of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from mimi_edge.export.engines.tensorrt.bindings import Bindings

SITES = ("blocks.0.mlp", "blocks.1.mlp")
TOKENS, WIDTH, NEURONS, CLASSES = 3, 16, 4, 5
SIZE = 4
BATCHES = (1, 2, 4)

BODY = """
<ir_version: 10, opset_import: ["" : 20]>
tiny (float[{rows}, 3, 4, 4] images{inputs}) => (float[{answers}, {classes}] logits) {{
    tokens = Reshape(images, token_shape)
    "blocks.0.mid" = MatMul(tokens, "blocks.0.weight")
    "blocks.0.mlp" = Tanh("blocks.0.mid")
    {first}
    "blocks.1.mid" = MatMul("blocks.0.mlp.adapted", "blocks.1.weight")
    "blocks.1.mlp" = Tanh("blocks.1.mid")
    {second}
    features = ReduceMean <keepdims = 0> ("blocks.1.mlp.adapted", token_axis)
    {head}
}}
"""
ADAPTER = """
    "{site}.into" = MatMul({value}, "{site}.down")
    "{site}.hidden" = Gelu("{site}.into")
    "{site}.out_of" = MatMul("{site}.hidden", "{site}.up")
    "{site}.adapted" = Add({value}, "{site}.out_of")
"""
MIXED_ADAPTER = """
    "{site}.down.own" = Gather <axis = 0> ("{site}.down", task_of_answer)
    "{site}.up.own" = Gather <axis = 0> ("{site}.up", task_of_answer)
    "{site}.into" = MatMul({value}, "{site}.down.own")
    "{site}.hidden" = Gelu("{site}.into")
    "{site}.out_of" = MatMul("{site}.hidden", "{site}.up.own")
    "{site}.adapted" = Add({value}, "{site}.out_of")
"""
HEAD = 'logits = Gemm <transB = 1> (features, "head.weight", "head.bias")'
MIXED_HEAD = """
    "head.weight.own" = Gather <axis = 0> ("head.weight", task_of_answer)
    "head.bias.own" = Gather <axis = 0> ("head.bias", task_of_answer)
    row = Unsqueeze(features, row_axis)
    turned = Transpose <perm = [0, 2, 1]> ("head.weight.own")
    product = MatMul(row, turned)
    flat = Squeeze(product, row_axis)
    logits = Add(flat, "head.bias.own")
"""

Weights = Mapping[str, np.ndarray]


def task_weights(seed: int, dtype: Any = np.float32) -> dict[str, np.ndarray]:
    """Adapters and head of one task."""
    random = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {}
    for site in SITES:
        shapes |= {f"{site}.down": (WIDTH, NEURONS), f"{site}.up": (NEURONS, WIDTH)}
    shapes |= {"head.weight": (CLASSES, WIDTH), "head.bias": (CLASSES,)}
    return {name: random.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}


def backbone_weights(seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {
        f"blocks.{index}.weight": (random.standard_normal((WIDTH, WIDTH)) * WIDTH**-0.5).astype(np.float32)
        for index in range(2)
    }


def own_graph(path: Path, weights: Weights, *, backbone: Weights | None = None) -> Path:
    """A graph with one task in it, images [batch, 3, 4, 4] -> logits [batch, 5]."""
    text = BODY.format(
        rows="batch",
        answers="batch",
        inputs="",
        classes=CLASSES,
        first=ADAPTER.format(site=SITES[0], value='"blocks.0.mlp"'),
        second=ADAPTER.format(site=SITES[1], value='"blocks.1.mlp"'),
        head=HEAD,
    )
    return _saved(path, text, {**(backbone or backbone_weights()), **weights})


def shared_graph(path: Path) -> Path:
    """The same with adapters and head as inputs."""
    text = BODY.format(
        rows="batch",
        answers="batch",
        inputs=_inputs(task_weights(0), ""),
        classes=CLASSES,
        first=ADAPTER.format(site=SITES[0], value='"blocks.0.mlp"'),
        second=ADAPTER.format(site=SITES[1], value='"blocks.1.mlp"'),
        head=HEAD,
    )
    return _saved(path, text, backbone_weights())


def mixed_graph(path: Path) -> Path:
    """The same with banks of tasks; each answer names its frame and its task."""
    indices = ", int32[answers] frame_of_answer, int32[answers] task_of_answer"
    text = BODY.format(
        rows="frames",
        answers="answers",
        inputs=indices + _inputs(task_weights(0), "tasks, "),
        classes=CLASSES,
        first='frame0 = Gather <axis = 0> ("blocks.0.mlp", frame_of_answer)\n'
        + MIXED_ADAPTER.format(site=SITES[0], value="frame0"),
        second=MIXED_ADAPTER.format(site=SITES[1], value='"blocks.1.mlp"'),
        head=MIXED_HEAD,
    )
    return _saved(path, text, backbone_weights())


def half(path: Path, source: Path) -> Path:
    """The same graph with everything between images and logits in fp16, tasks' weights that are inputs included."""
    model = onnx.load(source)
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype == np.float32:
            tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), tensor.name))
    for value in model.graph.input:
        if value.name != "images" and value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
            value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    for node in model.graph.node:
        node.input[:] = ["half_images" if name == "images" else name for name in node.input]
        node.output[:] = ["half_logits" if name == "logits" else name for name in node.output]
    model.graph.node.insert(0, onnx.helper.make_node("Cast", ["images"], ["half_images"], to=onnx.TensorProto.FLOAT16))
    model.graph.node.append(onnx.helper.make_node("Cast", ["half_logits"], ["logits"], to=onnx.TensorProto.FLOAT))
    onnx.save(model, path)
    return path


def _inputs(weights: Weights, front: str) -> str:
    return "".join(f', float[{front}{", ".join(map(str, values.shape))}] "{name}"' for name, values in weights.items())


def _saved(path: Path, text: str, weights: Weights) -> Path:
    model = onnx.parser.parse_model(text)
    constants = {
        "token_shape": np.array([0, TOKENS, WIDTH], np.int64),
        "token_axis": np.array([1], np.int64),
        "row_axis": np.array([1], np.int64),
    }
    used = {name for node in model.graph.node for name in node.input}
    for name, values in {**weights, **constants}.items():
        if name in used:
            model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    onnx.save(model, path)
    return path


def reference(path: Path, images: np.ndarray, **feeds: np.ndarray) -> np.ndarray:
    """What ONNX Runtime answers by itself."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"images": images, **feeds})[0]


def images(count: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 3, SIZE, SIZE), np.float32)


def built(
    bindings: Bindings,
    graph: Path,
    ranges: Mapping[str, Iterable[tuple[int, ...]]] | None = None,
    *,
    refittable: Iterable[str] = (),
    outputs: Iterable[str] = (),
) -> bytes:
    """The plan of a graph, built the way TensorRT is asked to by hand."""
    builder = bindings.builder()
    network = bindings.network(builder)
    bindings.parse(network, graph)
    bindings.mark_refittable(network, refittable)
    mark_outputs(network, outputs)
    config = builder.create_builder_config()
    bindings.allow_capture(config)
    if refittable:
        config.set_flag(bindings.flag("REFIT_INDIVIDUAL"))
    profile = builder.create_optimization_profile()
    for name, shapes in (ranges or {"images": [(batch, 3, SIZE, SIZE) for batch in BATCHES]}).items():
        profile.set_shape(name, *shapes)
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    assert plan is not None
    return bytes(plan)


def mark_outputs(network: Any, names: Iterable[str]) -> None:
    wanted = set(names)
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        for number in range(layer.num_outputs):
            tensor = layer.get_output(number)
            if tensor.name in wanted:
                network.mark_output(tensor)
